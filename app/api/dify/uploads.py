"""Files in Dify's field names: uploading one, and reading it again with a key."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from app import ids
from app.api.answer import Answer, json_answer
from app.api.dify.asked import read_user
from app.api.files import FileReader, is_uuid
from app.api.one_file import OneFile
from app.api.operation import Operation, read_query
from app.artifacts.urls import UrlSigner
from app.domain.artifact import Upload
from app.domain.request import Caller, Scope
from app.errors import (
    FilenameMissing,
    FileNotFound,
    FileTooLarge,
    InvalidParam,
    NoFileUploaded,
    TooManyFiles,
    UnsupportedFileType,
)
from app.runs.uploads import ANONYMOUS, Owner, Uploads


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
        form = OneFile(self._uploads, ("user",))
        await form.read(request)
        with form.incoming() as incoming:
            texts = form.texts()
            owner = Owner(caller.app_id, read_user(texts) if texts else ANONYMOUS)
            upload = await self._uploads.keep(incoming, form.filename, owner)
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
