"""The SHA-256 of checkpoints, computed once: gigabytes take seconds.

Of a file it is the file's. Of a diffusers folder it is that of the hashes of its components' weights and of their
settings: of whatever has a part in the picture, and of nothing else that lies there.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from contextlib import suppress
from pathlib import Path

from app.checkpoints.identify import COMPONENTS, SECOND, Fingerprint, fingerprint
from app.checkpoints.weight_files import weight_files

_SETTINGS = "config.json", "scheduler_config.json"


class Hashes:
    """Remembers in `file`, if there is one, for all processes of this installation. Threads may share it.

    A file with another time or size is read again. What is remembered may be lost; then it is computed again.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Fingerprint, str]] = {}
        self._kept: tuple[Fingerprint, dict[str, tuple[Fingerprint, str]]] = (), {}  # the file, as it was read last

    def find(self, path: Path) -> str | None:
        """64 hex digits if they are known."""
        with self._lock:
            return self._find(path)

    def compute(self, path: Path) -> str:
        """The hash of a file or folder; reads all of it unless it is known. Raises OSError."""
        known = self.find(path)
        if known is None:
            stamp = fingerprint(path)
            known = self._of_folder(path) if path.is_dir() else _digest(path)
            if fingerprint(path) == stamp:  # else it was replaced in the middle, and this is neither's
                self._keep(path, stamp, known)
        return known

    def _of_folder(self, path: Path) -> str:
        """Raises OSError, also for a folder without weights."""
        hashed = [(part, self.compute(file)) for part, folder in _parts_of(path) for file in weight_files(folder)]
        if not hashed:
            raise FileNotFoundError(f"{path.name} has no .safetensors file")
        settings = ((part, folder / name) for part, folder in _parts_of(path) for name in _SETTINGS)
        hashed += [(part, _digest(file)) for part, file in settings if file.is_file()]
        return hashlib.sha256("\n".join(map(" ".join, hashed)).encode()).hexdigest()

    def note(self, path: Path, sha256: str) -> None:
        """What somebody has computed while the file came."""
        self._keep(path, fingerprint(path), sha256)

    def _find(self, path: Path) -> str | None:
        stamp = fingerprint(path)
        found = self._known.get(_key(path))
        if found is None or found[0] != stamp:
            found = self._read().get(_key(path))
        if found is None or found[0] != stamp:
            return None
        self._known[_key(path)] = found
        return found[1]

    def _keep(self, path: Path, stamp: Fingerprint, sha256: str) -> None:
        with self._lock:
            self._known[_key(path)] = stamp, sha256
            if self._file is not None:
                with suppress(OSError):
                    self._write({**self._read(), _key(path): (stamp, sha256)})

    def _read(self) -> dict[str, tuple[Fingerprint, str]]:
        """What the file has; read again when it has changed."""
        if self._file is None:
            return {}
        stamp = fingerprint(self._file)
        if stamp != self._kept[0]:
            self._kept = stamp, _read(self._file)
        return self._kept[1]

    def _write(self, known: dict[str, tuple[Fingerprint, str]]) -> None:
        """Those of files that are still there."""
        assert self._file is not None
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_name(f"{self._file.name}.{os.getpid()}-{threading.get_ident()}.part")
        part.write_text(json.dumps({path: value for path, value in known.items() if Path(path).exists()}))
        part.replace(self._file)


def stamp_of(*paths: str) -> str:
    """Another one for another content of the files or folders, as times and sizes tell: nothing is read."""
    return hashlib.sha256(repr([fingerprint(Path(path)) for path in paths]).encode()).hexdigest()[:16]


def _parts_of(folder: Path) -> list[tuple[str, Path]]:
    """The components of a checkpoint's folder by name; a component's own folder is its only one."""
    parts = [(part, folder / part) for part in (*COMPONENTS, SECOND) if (folder / part).is_dir()]
    return [*parts, ("scheduler", folder / "scheduler")] if parts else [("", folder)]


def _key(path: Path) -> str:
    """Folders have another than they had when only their UNets were hashed."""
    return f"{path}/" if path.is_dir() else str(path)


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _read(file: Path) -> dict[str, tuple[Fingerprint, str]]:
    try:
        return {
            path: (tuple((mark[0], mark[1]) for mark in stamp), str(sha256))
            for path, (stamp, sha256) in json.loads(file.read_bytes()).items()
        }
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return {}
