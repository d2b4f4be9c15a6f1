"""A file on its way in: held to its limit while it comes, never in memory as a whole, then looked at and stored."""

from __future__ import annotations

import asyncio
import io
import mmap
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import IO, BinaryIO, Self, cast

import msgspec

from app.artifacts.bombs import refuse_bomb
from app.artifacts.sniff import HEAD_BYTES, sniff, sniff_head
from app.artifacts.store import ArtifactStore
from app.artifacts.upright import is_on_its_side
from app.artifacts.whole import is_whole
from app.errors import FileTooLarge, InvalidParam, Unavailable
from app.settings import Settings

_IN_MEMORY = 1024 * 1024
_LONGEST_NAME = 200
_EXTENSION = re.compile(r"\.([A-Za-z0-9_+-]{1,15})\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class Limits(msgspec.Struct, frozen=True):
    """How many bytes a file may have, by what it is."""

    file: int
    image: int
    audio: int
    video: int

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        mb = (settings.upload_file_mb, settings.upload_image_mb, settings.upload_audio_mb, settings.upload_video_mb)
        return cls(*(each * 1024 * 1024 for each in mb))

    @property
    def largest(self) -> int:
        return max(self.file, self.image, self.audio, self.video)

    def of_type(self, mime_type: str) -> tuple[str, int]:
        """(what it is called, its limit)."""
        match mime_type.partition("/")[0]:
            case "image":
                return "picture", self.image
            case "audio":
                return "sound", self.audio
            case "video":
                return "film", self.video
        return "file of this kind", self.file


class Received(msgspec.Struct, frozen=True):
    """What came, as its bytes tell it; they are in the artifact store under `sha256`."""

    sha256: str
    size: int
    mime_type: str
    width: int | None
    height: int | None


class Seen(msgspec.Struct, frozen=True):
    """What a file is before it is stored. `is_whole`: a picture that is neither cut off nor garbled.

    `width` and `height` are those of the picture as it is to be seen, however the camera was held.
    """

    mime_type: str
    width: int | None
    height: int | None
    is_whole: bool


class Incoming:
    """One file, from its first byte to the artifact store. A small one never touches the disk on its way.

    A text that calls itself a film gets no more room than a text: the limit is that of what the bytes say.
    """

    def __init__(self, extension: str, limits: Limits) -> None:
        self.extension = extension
        self._limits = limits
        self._head = b""
        self._limit = 0
        self._pending = bytearray()
        self._file: IO[bytes] | None = None
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    async def write(self, chunk: bytes) -> None:
        """Takes the next bytes. Raises FileTooLarge at the first that is too many, and Unavailable."""
        self.size += len(chunk)
        if len(self._head) < HEAD_BYTES:
            self._head += chunk[: HEAD_BYTES - len(self._head)]
            _, self._limit = self._limits.of_type(sniff_head(self._head, self.extension))
        if self.size > self._limit:
            called, limit = self._limits.of_type(sniff_head(self._head, self.extension))
            raise FileTooLarge(f"A {called} may have {limit / 1024 / 1024:g} MB; this one has more.")
        self._pending += chunk
        if len(self._pending) > _IN_MEMORY:
            await asyncio.to_thread(self._flush)

    def keep(self, store: ArtifactStore) -> Received:
        """Looks at the whole file and stores it; blocks. Raises FileTooLarge for what would unpack to too much."""
        with self._whole() as (whole, content):
            mime_type, (width, height) = self._look(whole)
            return Received(store.put(content), self.size, mime_type, width, height)

    def see(self) -> Seen:
        """Looks at the whole file and leaves it as it is; blocks. Raises as `keep` does."""
        with self._whole() as (whole, content), memoryview(content) as view:
            mime_type, size = self._look(whole)
            width, height = reversed(size) if is_on_its_side(whole) else size
            return Seen(mime_type, width, height, is_whole(mime_type, view))

    @contextmanager
    def _whole(self) -> Iterator[tuple[BinaryIO, bytes | memoryview]]:
        with _translated():
            if self._file is None:
                whole = bytes(self._pending)
                yield io.BytesIO(whole), whole
                return
            self._flush()
            with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
                yield cast(BinaryIO, self._file), content

    def _look(self, whole: BinaryIO) -> tuple[str, tuple[int | None, int | None]]:
        size = refuse_bomb(sniff_head(self._head, self.extension), self._head, whole)
        return sniff(self._head, whole, self.extension), size or (None, None)

    def _flush(self) -> None:
        with _translated():
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed by __exit__
            self._file.write(self._pending)
            self._file.flush()
            self._pending.clear()


def read_filename(name: str) -> tuple[str, str]:
    """(the name as it is kept, its extension with a dot and in small letters). Raises InvalidParam for a path."""
    if "/" in name or "\\" in name:
        raise InvalidParam("Filename contains invalid characters", params="file")
    name = _CONTROL.sub("", name)
    found = _EXTENSION.search(name)
    extension = found[0] if found else ""
    if len(name) > _LONGEST_NAME:
        name = name.removesuffix(extension)[:_LONGEST_NAME] + extension
    return name, extension.lower()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"The file can't be taken in: {error.strerror or error}.") from error
