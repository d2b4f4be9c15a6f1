"""Files that were posted before it is said what they are: by their SHA-256, in a hidden folder beside the checkpoints.

There on the same disk they become checkpoints without being copied. After a day they are deleted (`leftovers`).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from app import ids
from app.errors import FileTooLarge, InvalidParam, Unavailable

FOLDER = ".blobs"
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})", re.ASCII)
_AT_ONCE = 1 << 20  # bytes written in one go
_SPARE_BYTES = 64 << 20


def read_digest(text: str) -> str:
    """The 64 hex digits of `sha256:…`. Raises InvalidParam."""
    found = _DIGEST.fullmatch(text)
    if found is None:
        raise InvalidParam("invalid digest format", params="digest")
    return found[1].lower()


class Blobs:
    """The blobs within the folder of the checkpoints. Any number of processes may share it."""

    def __init__(self, checkpoints_dir: Path, most_bytes: int) -> None:
        self._folder = checkpoints_dir / FOLDER
        self._most_bytes = most_bytes

    def find(self, sha256: str) -> Path | None:
        path = self._folder / f"sha256-{sha256}"
        return path if path.is_file() else None

    async def receive(self, sha256: str, announced: int | None, chunks: AsyncIterator[bytes]) -> None:
        """Keeps what comes if it has that hash; nobody sees it before, and nothing is left of what hasn't.

        Raises InvalidParam for other bytes, FileTooLarge, Unavailable.
        """
        part = self._folder / f".{sha256[:12]}-{ids.new_nonce()}.part"
        coming = _Coming(part, self._most_bytes)
        try:
            await asyncio.to_thread(coming.open, announced)
            waiting = bytearray()
            async for chunk in chunks:
                waiting += chunk
                if len(waiting) >= _AT_ONCE:
                    await asyncio.to_thread(coming.write, waiting)
                    waiting = bytearray()
            await asyncio.to_thread(coming.write, waiting)
            found = await asyncio.to_thread(coming.finish, sha256, self._folder / f"sha256-{sha256}")
        except OSError as error:
            raise Unavailable(f"{self._folder} can't be written: {error.strerror or error}.") from None
        finally:
            coming.close()
        if found != sha256:
            said = f'digest mismatch, expected "sha256:{sha256}", got "sha256:{found}"'
            raise InvalidParam(said, params="digest")


class _Coming:
    """A blob on its way in. Used by one thread at a time."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._hash = hashlib.sha256()
        self._size = 0
        self._descriptor = -1

    def open(self, announced: int | None) -> None:
        """Raises FileTooLarge and Unavailable where there can't be room for what was announced; OSError."""
        needed = announced or 0
        self._require(needed)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._path.parent).free
        if free < needed + _SPARE_BYTES:
            raise Unavailable(f"There are {free / 1e9:.2f} GB of room left; the blob takes {needed / 1e9:.2f} GB.")
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def write(self, content: bytes | bytearray) -> None:
        self._size += len(content)
        self._require(self._size)
        self._hash.update(content)
        left = memoryview(content)
        while left:
            left = left[os.write(self._descriptor, left) :]

    def finish(self, wanted: str, place: Path) -> str:
        """Its hash; if it is the wanted one, the file is in its place."""
        found = self._hash.hexdigest()
        if found == wanted:
            os.fsync(self._descriptor)
            self._path.replace(place)
        return found

    def close(self) -> None:
        """Nothing is left but what was finished."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._path.unlink(missing_ok=True)

    def _require(self, size: int) -> None:
        if size > self._most_bytes:
            raise FileTooLarge(f"A blob may have {self._most_bytes} bytes (ATELIER_BLOB_MB).")
