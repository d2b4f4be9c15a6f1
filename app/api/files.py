"""Files under signed URLs: whoever has the URL may read, for as long as it is valid."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, BinaryIO, TypeVar
from urllib.parse import quote
from uuid import UUID

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.api.operation import OpenOperation, read_query
from app.artifacts.sniff import BINARY, is_inert, is_raster
from app.artifacts.store import ArtifactStore
from app.artifacts.urls import Purpose, UrlSigner
from app.domain.artifact import Artifact, Upload
from app.errors import Forbidden, NotFound, Unavailable, UnsupportedFileType
from app.store.files import find_artifact
from app.store.store import Store
from app.store.uploads import find_upload

T = TypeVar("T")

# Reading blocks, on threads of its own: an artifact store that hangs holds up nothing but its own files.
_READERS = 16
_READ_WITHIN_S = 30.0
_AT_ONCE = 1024 * 1024  # bytes of one file that are in memory
_AT_HAND = 64 * 1024  # bytes that are read before a thread would have begun
_UNSIGNED = "File not found or signature is invalid"


class FileQuery(msgspec.Struct, frozen=True):
    """What a signed URL says; see `app.artifacts.urls`."""

    timestamp: Annotated[str, Meta(description="when it was signed, in seconds since 1970", min_length=1)]
    nonce: Annotated[str, Meta(description="what makes each URL another one", min_length=1)]
    sign: Annotated[str, Meta(description="the signature", min_length=1)]
    as_attachment: Annotated[bool, Meta(description="as a download, with a file's name")] = False

    @property
    def signed(self) -> tuple[str, str, str]:
        return self.timestamp, self.nonce, self.sign


class FileReader:
    """Sends a file's bytes. What a browser would run as a program, such as HTML or SVG, it gets as a download only."""

    def __init__(self, content: ArtifactStore, *, is_near: bool = False) -> None:
        """`is_near`: the files lie on this machine, beside a database that is read without threads, too."""
        self._content = content
        self._is_near = is_near
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="files")

    async def answer(
        self, file: Artifact | Upload, *, as_attachment: bool = False, media_type: str | None = None
    ) -> Response:
        """The file as an answer, as `media_type` or what it is. Raises NotFound, Unavailable."""
        headers = {
            "content-length": str(file.size),
            "etag": f'"{file.sha256}"',
            "cache-control": "private, max-age=31536000, immutable",
            "x-content-type-options": "nosniff",
            "content-type": media_type or file.mime_type,
        }
        if not is_inert(file.mime_type):
            as_attachment, headers["content-type"] = True, BINARY
            headers["content-security-policy"] = "default-src 'none'; sandbox"
        if as_attachment:
            headers["content-disposition"] = f"attachment; filename*=UTF-8''{quote(file.filename)}"
        if file.size <= _AT_ONCE:
            return Response(await self._read(self._content.get, file.sha256), headers=headers)
        opened = await self._read(self._begin, file.sha256, _AT_ONCE)
        return StreamingResponse(self._pieces(*opened, _AT_ONCE), headers=headers)

    async def pieces(self, sha256: str, size: int, whole: int) -> AsyncIterator[bytes]:
        """The bytes of a file that was made just now, `whole` in all, `size` at a time: only the last may be fewer.

        Raises NotFound, Unavailable, before the first of them.
        """
        if self._is_near and whole <= _AT_HAND:  # it is in memory still
            yield self._content.get(sha256)
            return
        if whole <= size:
            yield await self._read(self._content.get, sha256)
            return
        async for piece in self._pieces(*await self._read(self._begin, sha256, size), size):
            yield piece

    def _begin(self, sha256: str, size: int) -> tuple[BinaryIO, bytes]:
        """The open file and its first piece: one way to a thread and back for both."""
        file = self._content.open(sha256)
        return file, file.read(size)

    async def _read(self, read: Callable[..., T], *asked: object) -> T:
        reading = asyncio.get_running_loop().run_in_executor(self._readers, read, *asked)
        try:
            return await asyncio.wait_for(reading, _READ_WITHIN_S)
        except TimeoutError:
            raise Unavailable("The file could not be read in time.") from None

    async def _pieces(self, file: BinaryIO, piece: bytes, size: int) -> AsyncIterator[bytes]:
        """As the client takes them: one that is slow holds a file open, and none of it in memory."""
        try:
            while piece:
                yield piece
                piece = await self._read(file.read, size) if len(piece) == size else b""
        finally:
            file.close()


class SignedFiles:
    """The routes below `/files`, which need a signature and no key."""

    def __init__(self, store: Store, reader: FileReader, signer: UrlSigner) -> None:
        self._store = store
        self._reader = reader
        self._signer = signer

    def operations(self) -> list[OpenOperation]:
        return [
            OpenOperation(
                method="GET",
                path="/files/tools/{name}",
                handler=self._tool_file,
                summary="Reading a picture",
                description="Answers hold signed URLs: whoever has one may read the file until it expires.",
                query=FileQuery,
                answers={200: "*/*"},
                raises=(NotFound, Forbidden, Unavailable),
            ),
            OpenOperation(
                method="GET",
                path="/files/{file_id}/file-preview",
                handler=self._file_preview,
                summary="Reading an upload",
                description="Its bytes, under the URL that answers name for it.",
                query=FileQuery,
                answers={200: "application/octet-stream"},
                raises=(NotFound, Unavailable),
            ),
            OpenOperation(
                method="GET",
                path="/files/{file_id}/image-preview",
                handler=self._image_preview,
                summary="Showing an uploaded picture",
                query=FileQuery,
                answers={200: "image/*"},
                raises=(NotFound, Unavailable, UnsupportedFileType),
            ),
        ]

    async def _tool_file(self, request: Request) -> Response:
        artifact_id, dot, extension = request.path_params["name"].partition(".")
        if not is_uuid(artifact_id):
            raise NotFound("file is not found")
        query = read_query(request, FileQuery)
        self._signer.check(artifact_id, query.signed)
        artifact = await self._store.read(lambda tx: find_artifact(tx, artifact_id))
        if artifact is None or dot + extension != artifact.extension:
            raise NotFound("file is not found")
        return await self._reader.answer(artifact, as_attachment=query.as_attachment)

    async def _file_preview(self, request: Request) -> Response:
        """As in Dify the type is never told: it is for programs, which know it from the file's object."""
        upload, query = await self._upload(request, "file-preview")
        return await self._reader.answer(upload, as_attachment=query.as_attachment, media_type=BINARY)

    async def _image_preview(self, request: Request) -> Response:
        upload, query = await self._upload(request, "image-preview")
        if not is_raster(upload.mime_type):
            raise UnsupportedFileType(f"This file is no picture of pixels: it is {upload.mime_type}.")
        return await self._reader.answer(upload, as_attachment=query.as_attachment)

    async def _upload(self, request: Request, purpose: Purpose) -> tuple[Upload, FileQuery]:
        upload_id = request.path_params["file_id"]
        if not is_uuid(upload_id):
            raise NotFound(_UNSIGNED)
        query = read_query(request, FileQuery)
        try:
            self._signer.check(upload_id, query.signed, purpose)
        except Forbidden:
            raise NotFound(_UNSIGNED) from None
        upload = await self._store.read(lambda tx: find_upload(tx, upload_id))
        if upload is None:
            raise NotFound(_UNSIGNED)
        return upload, query


def is_uuid(text: str) -> bool:
    """True for the id of a file, written in any case."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
