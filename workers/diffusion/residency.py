"""Which checkpoints are in memory: the last few that were used."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from app.errors import CheckpointUnavailable
from workers.diffusion.memory import give_back_memory
from workers.diffusion.pipeline import Pipeline

Stamp = tuple[int, int]  # modification time in ns and size in bytes: another stamp, another file


class Residency:
    """At most `limit` pipelines by their checkpoint's path; the one not used for longest makes room for a new one."""

    def __init__(self, limit: int, load: Callable[[Path, str], Pipeline]) -> None:
        self._limit = max(limit, 1)
        self._load = load
        self._held: OrderedDict[str, tuple[Stamp, Pipeline]] = OrderedDict()

    @property
    def paths(self) -> list[str]:
        """Least recently used first."""
        return list(self._held)

    def pipeline(self, path: str, family: str) -> Pipeline:
        """The pipeline of `path`, loaded unless it is here. Raises CheckpointUnavailable."""
        self.bring(path, family)
        return self._held[path][1]

    def bring(self, path: str, family: str) -> float:
        """Loads the pipeline of `path` unless it is here; returns how many seconds that took, 0 when it was here.

        Raises CheckpointUnavailable.
        """
        took_s = 0.0
        stamp = _stamp(Path(path))
        held = self._held.pop(path, None)
        if held is None or held[0] != stamp:
            held, began_s = None, time.monotonic()  # a file that was replaced: the old weights go before the new come
            self._make_room()
            held = (stamp, self._load(Path(path), family))
            took_s = time.monotonic() - began_s
        self._held[path] = held
        return took_s

    def _make_room(self) -> None:
        while len(self._held) >= self._limit:
            self._held.popitem(last=False)
        give_back_memory()


def _stamp(path: Path) -> Stamp:
    """Of a folder: its newest file's time and the sum of its files' sizes."""
    try:
        files = [file.stat() for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path.stat()]
    except OSError as error:
        raise CheckpointUnavailable(
            f"The checkpoint {path.name} is not there any more: {error}.", params="model_name"
        ) from error
    return max((file.st_mtime_ns for file in files), default=0), sum(file.st_size for file in files)
