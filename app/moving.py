"""Moving an installation from SQLite to PostgreSQL, with what the person who does it gets to see."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.artifacts.copy import copy_objects
from app.artifacts.disk import DiskArtifacts
from app.artifacts.store import open_artifacts
from app.errors import InvalidParam
from app.settings import Settings, load_settings
from app.store.copy import copy_rows, require_copyable
from app.store.folder_lock import lock_folder


def move(urls: Sequence[str], settings: Settings, out: Console) -> None:
    """Copies the source's pictures and rows to the target: `urls` are (source, target), or the target alone.

    The source is `settings`' own database then. Its server must not run, and can't be started meanwhile. Pictures
    come first, so that no row ever names bytes that are not there. Raises SettingsInvalid, InvalidParam, Unavailable.
    """
    if len(urls) not in (1, 2):
        raise InvalidParam("Give the target's URL, or the source's and the target's.")
    source = _source(urls[0], settings) if len(urls) == 2 else settings
    target = load_settings(database_url=urls[-1])
    require_copyable(source, target)
    with _stopped(source.data_dir):
        _move_pictures(source, target, out)
        with _bar("rows", out) as told:
            counts = copy_rows(source, target, told)
    table = Table("table", "rows", box=None)
    for name, count in counts.items():
        table.add_row(name, str(count))
    out.print(table)
    out.print(f"Copied, and counted on both sides. {source.database_path} is as it was: do not start its server again.")


def _source(url: str, settings: Settings) -> Settings:
    """The installation of a database: that of the settings, or the one in whose data folder the database lies."""
    named = load_settings(database_url=url)
    if not named.is_embedded:
        return named
    if settings.is_embedded and named.database_path == settings.database_path:
        return settings
    return load_settings(database_url=url, data_dir=named.database_path.parent)


def _move_pictures(source: Settings, target: Settings, out: Console) -> None:
    folder = source.artifacts_dir
    if not target.s3_bucket:
        out.print(
            f"S3_BUCKET is not set, so the pictures stay in {folder}. Copy that folder to the bucket or the data folder"
            " of the new processes: without it they answer 404 for each picture."
        )
        return
    with _bar("pictures", out) as told:
        left_out = copy_objects(DiskArtifacts(folder, source.orphan_age_s), open_artifacts(target), told)
    for sha256 in left_out:
        out.print(f"Left out, because its bytes can't be read or have changed: {sha256} in {folder}")


@contextmanager
def _stopped(data_dir: Path) -> Iterator[None]:
    """Holds the place of the server of this folder."""
    descriptor = lock_folder(data_dir)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _bar(what: str, out: Console) -> Iterator[Callable[[int, int], None]]:
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=out) as progress:
        bar = progress.add_task("", total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)
