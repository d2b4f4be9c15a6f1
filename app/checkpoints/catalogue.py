"""The installed checkpoints by name."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.checkpoints.checkpoint import Checkpoint
from app.checkpoints.hashes import Hashes
from app.checkpoints.identify import Fingerprint, fingerprint, identify, looks_like_checkpoint
from app.errors import CheckpointUnavailable

# What a request means that names no checkpoint: the one everybody knows, then the configured one, then our own.
WELL_KNOWN, SHIPPED = "v1-5-pruned-emaonly", "atelier-shapes"
SHIPPED_FOLDER = Path(__file__).parent / "shipped"

# A change of a folder within the same tick of its clock leaves its mtime as it was. So a listing is trusted only if
# the folder had been at rest for longer than any file system's tick (FAT: 2 s) when it was made.
_TICK_NS = 2_000_000_000
_HASH = re.compile(r"\s*\[[0-9a-fA-F]{6,64}\]$")


class Catalogue:
    """What lies in `folders`, the first of them first. It follows the disk: a new file is there for the next request.

    A look-up costs a stat for each folder and for the files of the checkpoint; headers are read again only after a
    change. A name is only ever looked up among those found, so no name can lead to another place of the disk.
    """

    def __init__(self, folders: Sequence[Path], default: str | None = None, hashes: Hashes | None = None) -> None:
        self._folders = [Path(folder) for folder in folders]
        self._default = default
        self._mtimes_ns: list[int] | None = None  # of the folders, when `_paths` was made; None: not to be trusted
        self._paths: dict[str, Path] = {}
        self._known: dict[Path, tuple[Fingerprint, Checkpoint]] = {}
        self._hashes = hashes or Hashes()

    def list(self) -> list[Checkpoint]:
        """All of them by name, with those that can't be used."""
        found = (self._find(name) for name in sorted(self._current_paths()))
        return [checkpoint for checkpoint in found if checkpoint]

    def get(self, name: str) -> Checkpoint:
        """The usable checkpoint of that name, which may end in `.safetensors`. Raises CheckpointUnavailable."""
        checkpoint = self._find(name) or self._find(name.removesuffix(".safetensors"))
        if checkpoint is None:
            raise CheckpointUnavailable(f"There is no checkpoint {name!r}. {self._way_out()}", params="model_name")
        if checkpoint.problem:
            raise CheckpointUnavailable(
                f"The checkpoint {name!r} can't be used: {checkpoint.problem}", params="model_name"
            )
        return checkpoint

    def default(self) -> Checkpoint:
        """What a request without a name gets. Raises CheckpointUnavailable when nothing fits."""
        for name in (WELL_KNOWN, self._default, SHIPPED):
            checkpoint = self._find(name) if name else None
            if checkpoint and not checkpoint.problem:
                return checkpoint
        raise CheckpointUnavailable(f"There is no default checkpoint. {self._way_out()}", params="model_name")

    def stand_in(self, asked: str, names: Mapping[str, str]) -> Checkpoint:
        """What paints where a model is asked for that may be somebody else's.

        The checkpoint that `names` gives it, else the one that is called so, else the one for `*`, else the default. A
        name may have a folder before it, and an extension or a hash behind it. Raises CheckpointUnavailable where
        `names` gives a checkpoint that can't be used.
        """
        plain = bare_name(asked)
        named = names.get(asked) or names.get(plain)
        if named:
            return self.get(named)
        found = self._find(asked) or self._find(plain)
        if found and not found.problem:
            return found
        return self.get(names["*"]) if "*" in names else self.default()

    def hash_prefix(self, checkpoint: Checkpoint) -> str:
        """The first 10 hex digits of the file's SHA-256 (of a folder: its UNet's), as other image servers show them.

        Reads the whole file the first time: seconds for gigabytes, so not for the path of a request.
        """
        return self._hashes.compute(Path(checkpoint.path))[:10]

    def _find(self, name: str) -> Checkpoint | None:
        path = self._current_paths().get(name)
        if path is None:
            return None
        stamp = fingerprint(path)
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            known = self._known[path] = (stamp, identify(path))
        return known[1] if stamp else None  # without a file left: it was deleted in place of its folder

    def _current_paths(self) -> dict[str, Path]:
        """Name → path, listed again if a folder changed since."""
        mtimes_ns = [_mtime_ns(folder) for folder in self._folders]
        if mtimes_ns != self._mtimes_ns:
            at_rest = max(mtimes_ns, default=0) < time.time_ns() - _TICK_NS
            self._paths = _paths_in(self._folders)
            self._mtimes_ns = mtimes_ns if at_rest else None
        return self._paths

    def _way_out(self) -> str:
        usable = [checkpoint.name for checkpoint in self.list() if not checkpoint.problem]
        installed = f"Installed: {', '.join(usable)}." if usable else "None is installed."
        where = f" Put a .safetensors file into {self._folders[0]}." if self._folders else ""
        return installed + where


def _mtime_ns(folder: Path) -> int:
    """0 for a folder that isn't there: it may come."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _paths_in(folders: Sequence[Path]) -> dict[str, Path]:
    """Name → path. Of one name, the earlier folder counts, and within a folder a .safetensors file before others."""
    paths: dict[str, Path] = {}
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                found = [Path(entry.path) for entry in entries if not entry.name.startswith(".")]
        except OSError:
            continue
        for path in sorted(filter(looks_like_checkpoint, found), key=_rank):
            paths.setdefault(path.name if path.is_dir() else path.stem, path)
    return paths


def _rank(path: Path) -> tuple[int, str]:
    order = 0 if path.suffix.lower() == ".safetensors" and path.is_file() else 1 if path.is_dir() else 2
    return order, path.name


def bare_name(asked: str) -> str:
    """A model's name without what other image servers show with it: `SD/name.safetensors [6ce0161689]` → `name`."""
    name = _HASH.sub("", asked.strip())
    name = name.replace("\\", "/").rpartition("/")[2]
    for extension in (".safetensors", ".ckpt"):
        name = name.removesuffix(extension)
    return name


def open_catalogue(folder: Path, default: str) -> Catalogue:
    """What is installed in `folder`, and after it the checkpoint that ships with Atelier."""
    return Catalogue([folder, SHIPPED_FOLDER], default or None)
