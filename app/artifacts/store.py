"""Where the bytes of artifacts lie: content-addressed, so that a repeated attempt writes the same object again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Protocol

from app.errors import NotFound, Unavailable
from app.settings import Settings


class ArtifactStore(Protocol):
    """Objects under the sha256 of their content. Written before the row that names them, never changed."""

    def put(self, content: bytes) -> str:
        """Stores the content durably; returns its sha256 in hex. Safe to repeat. Raises Unavailable."""
        ...

    def get(self, sha256: str) -> bytes:
        """The content. Raises NotFound."""
        ...


class DiskArtifacts:
    """Artifacts as files: `ab/cd/<sha256>` below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        target = self._path(sha256)
        if target.exists():
            return sha256
        temporary = target.with_name(f".{sha256}.{os.getpid()}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise Unavailable(f"The picture can't be stored: {error.strerror or error}.") from error
        return sha256

    def get(self, sha256: str) -> bytes:
        try:
            return self._path(sha256).read_bytes()
        except FileNotFoundError:
            raise NotFound("file is not found") from None

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256[2:4] / sha256


def open_artifacts(settings: Settings) -> ArtifactStore:
    """The artifact store that the settings choose."""
    return DiskArtifacts(settings.artifacts_dir)
