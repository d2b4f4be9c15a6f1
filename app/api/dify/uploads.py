"""Files in Dify's field names: uploading one, and reading it again with a key."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from app import ids
from app.api.answer import Answer, json_answer
from app.api.dify.asked import read_user
from app.api.files import FileReader, is_uuid
from app.api.multipart import Part, read_parts
from app.api.operation import Operation, read_query
from app.artifacts.incoming import Incoming
from app.artifacts.urls import UrlSigner
from app.domain.artifact import Upload
from app.domain.request import Caller, Scope
from app.errors import (
    BadRequest,
    FilenameMissing,
    FileNotFound,
    FileTooLarge,
    InvalidParam,
    NoFileUploaded,
    TooManyFiles,
    UnsupportedFileType,
)
from app.runs.uploads import ANONYMOUS, Owner, Uploads

_MOST_BESIDES = 1024 * 1024  # what a form may have besides its file
_LONGEST_FIELD = 64 * 1024


class UploadForm(msgspec.Struct, frozen=True):
    """A file, and whose it is."""

    file: Annotated[str, Meta(description="the file, with its name", extra_json_schema={"format": "binary"})]
    user: Annotated[str, Meta(description="Your name for the end-user; only this user's runs may use the file.")] = (
        ANONYMOUS
    )


class UploadedFile(msgspec.Struct, frozen=True):
    """A file that was taken in. `id` is what a run names as `upload_file_id`."""

    id: str
    reference: str | None
    name: str
    size: Annotated[int, Meta(description="bytes")]
    extension: Annotated[str, Meta(description="without a dot", examples=["png"])]
    mime_type: Annotated[str, Meta(description="what it is by its bytes", examples=["image/png"])]
    created_by: str
    created_at: Annotated[int, Meta(description="seconds since 1970")]
    preview_url: Annotated[str | None, Meta(description="of a picture: shows it to whoever has the URL, for a while")]
    source_url: Annotated[str, Meta(description="reads it, likewise")]
    original_url: str | None
    user_id: str | None
    tenant_id: str | None
    conversation_id: str | None
    file_key: str | None


class PreviewQuery(msgspec.Struct, frozen=True):
    """How a file is to be sent."""

    as_attachment: Annotated[bool, Meta(description="as a download, with its name")] = False
    user: Annotated[str | None, Meta(description="only if it is this user's")] = None


class UploadApi:
    """Dify's operations for files below `/v1`."""

    def __init__(self, uploads: Uploads, reader: FileReader, signer: UrlSigner) -> None:
        self._uploads = uploads
        self._reader = reader
        self._signer = signer

    def operations(self) -> list[Operation]:
        return [
            Operation(
                method="POST",
                path="/v1/files/upload",
                handler=self._upload,
                scope=Scope.FILES,
                summary="Uploading a file",
                description="For the inputs of runs of the same user. What it is its bytes say, and its limit too.",
                form=UploadForm,
                answers={201: UploadedFile},
                raises=(
                    *(NoFileUploaded, TooManyFiles, FilenameMissing, FileTooLarge, UnsupportedFileType, InvalidParam),
                ),
            ),
            Operation(
                method="GET",
                path="/v1/files/{file_id}/preview",
                handler=self._preview,
                scope=Scope.READ,
                summary="Reading a file",
                description="One that was uploaded, or that a run made. A page or a drawing that could run a program "
                "comes as a download.",
                query=PreviewQuery,
                answers={200: "*/*"},
                raises=(FileNotFound,),
            ),
        ]

    async def _upload(self, request: Request, caller: Caller) -> Answer:
        reading = _Reading(self._uploads)
        async for event in read_parts(request, self._uploads.limits.largest + _MOST_BESIDES):
            await reading.take(event)
        with reading.incoming() as incoming:
            owner = Owner(caller.app_id, reading.user())
            upload = await self._uploads.keep(incoming, reading.filename, owner)
        return json_answer(self._shown(upload), status=201)

    async def _preview(self, request: Request, caller: Caller) -> Response:
        query = read_query(request, PreviewQuery)
        file_id = request.path_params["file_id"]
        if not is_uuid(file_id):
            raise FileNotFound("File not found.")
        found = await self._uploads.find(caller, file_id.lower(), query.user or None)
        return await self._reader.answer(found, as_attachment=query.as_attachment)

    def _shown(self, upload: Upload) -> UploadedFile:
        shows = upload.mime_type.startswith("image/") and upload.width is not None
        return UploadedFile(
            id=upload.id,
            reference=None,
            name=upload.filename,
            size=upload.size,
            extension=upload.extension.lstrip("."),
            mime_type=upload.mime_type,
            created_by=ids.end_user_id(upload.app_id, upload.user),
            created_at=int(upload.created_at),
            preview_url=self._signer.upload(upload.id, "image-preview") if shows else None,
            source_url=self._signer.upload(upload.id),
            original_url=None,
            user_id=None,
            tenant_id=None,
            conversation_id=None,
            file_key=None,
        )


class _Reading:
    """A form as it comes: the first part `file` goes where files go, `user` is kept, the rest is passed over."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._file_fields: set[str] = set()
        self._incoming: Incoming | None = None
        self._user = bytearray()
        self._now: Any = None  # where the bytes of the current part go
        self.filename = ""

    async def take(self, event: Part | bytes) -> None:
        if isinstance(event, Part):
            self._now = self._begin(event)
        elif isinstance(self._now, Incoming):
            await self._now.write(event)
        elif self._now is not None:
            self._now += event
            if len(self._now) > _LONGEST_FIELD:
                raise BadRequest(f"A field of the form may have {_LONGEST_FIELD} bytes.")

    def _begin(self, part: Part) -> Incoming | bytearray | None:
        if part.filename is None:
            return self._user if part.name == "user" and not self._user else None
        is_first = part.name not in self._file_fields
        self._file_fields.add(part.name)
        if part.name != "file" or not is_first:
            return None
        self.filename, self._incoming = self._uploads.expect(part.filename, part.media_type)
        return self._incoming

    def incoming(self) -> Incoming:
        """The file, once the whole form has come. Raises NoFileUploaded, TooManyFiles."""
        if self._incoming is None:
            raise NoFileUploaded("Please upload your file.")
        if len(self._file_fields) > 1:
            raise TooManyFiles("Only one file is allowed.")
        return self._incoming

    def user(self) -> str:
        """Whose it is; nobody's in particular without a word about it."""
        user = self._user.decode("utf-8", "replace")
        return read_user({"user": user}) if user.strip() else ANONYMOUS
