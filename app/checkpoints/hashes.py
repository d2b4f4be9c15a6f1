"""The SHA-256 of checkpoints' files, computed once: gigabytes take seconds."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import suppress
from pathlib import Path

from app.checkpoints.identify import Fingerprint, files_of, fingerprint


class Hashes:
    """Remembers in `file`, if there is one, for all processes of this installation. Threads may share it.

    A file with another time or size is read again. What is remembered may be lost; then it is computed again.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Fingerprint, str]] = {}

    def find(self, path: Path) -> str | None:
        """64 hex digits if they are known."""
        with self._lock:
            return self._find(path)

    def compute(self, path: Path) -> str:
        """The hash of a file, of a folder that of its UNet's weights; reads all of it unless it is known. OSError."""
        known = self.find(path)
        if known is None:
            stamp = fingerprint(path)
            with _weights_of(path).open("rb") as content:
                known = hashlib.file_digest(content, "sha256").hexdigest()
            if fingerprint(path) == stamp:  # else it was replaced in the middle, and this is neither's
                self._keep(path, stamp, known)
        return known

    def note(self, path: Path, sha256: str) -> None:
        """What somebody has computed while the file came."""
        self._keep(path, fingerprint(path), sha256)

    def _find(self, path: Path) -> str | None:
        stamp = fingerprint(path)
        found = self._known.get(str(path))
        if found is None or found[0] != stamp:
            found = self._read().get(str(path))
        if found is None or found[0] != stamp:
            return None
        self._known[str(path)] = found
        return found[1]

    def _keep(self, path: Path, stamp: Fingerprint, sha256: str) -> None:
        with self._lock:
            self._known[str(path)] = stamp, sha256
            if self._file is not None:
                with suppress(OSError):
                    self._write({**self._read(), str(path): (stamp, sha256)})

    def _read(self) -> dict[str, tuple[Fingerprint, str]]:
        try:
            kept = json.loads(self._file.read_bytes()) if self._file else {}
            return {
                path: (tuple((mark[0], mark[1]) for mark in stamp), str(sha256))
                for path, (stamp, sha256) in kept.items()
            }
        except (OSError, ValueError, TypeError, LookupError, AttributeError):
            return {}

    def _write(self, known: dict[str, tuple[Fingerprint, str]]) -> None:
        """Those of files that are still there."""
        assert self._file is not None
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_name(f"{self._file.name}.{threading.get_ident()}.part")
        part.write_text(json.dumps({path: value for path, value in known.items() if Path(path).exists()}))
        part.replace(self._file)


def stamp_of(*paths: str) -> str:
    """Another one for another content of the files or folders, as times and sizes tell: nothing is read."""
    return hashlib.sha256(repr([fingerprint(Path(path)) for path in paths]).encode()).hexdigest()[:16]


def _weights_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    weights = [file for file in files_of(path) if file.suffix == ".safetensors"]
    if not weights:
        raise FileNotFoundError(f"{path.name} has no .safetensors file")
    return next((file for file in weights if file.parent.name == "unet"), weights[0])
