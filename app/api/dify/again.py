"""Making a picture again from its own file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.types import ASGIApp

from app.api.body import read_object
from app.api.dify.asked import read_run_request, read_user
from app.api.dify.routes import REFUSALS, RUN_ANSWERS, DifyApi
from app.api.files import is_uuid
from app.api.one_file import OneFile
from app.api.operation import Operation, read_value
from app.api.run_headers import RunHeaders
from app.domain.artifact import Artifact, Upload
from app.domain.request import Caller, RunRequest, Scope
from app.errors import FileNotFound, InvalidParam, NoFileUploaded, TooManyFiles, UnsupportedFileType
from app.runs.again import Again
from app.runs.uploads import Owner, Uploads
from app.settings import Settings

_User = Annotated[str, Meta(description="The end-user: whose files the picture was made from.", examples=["abc-123"])]
_Mode = Annotated[
    Literal["blocking", "streaming", "async", ""] | None,
    Meta(description="As of any run: its end, its events, or its ids at once."),
]
_Model = Annotated[
    str,
    Meta(description="A checkpoint in place of the one that the picture names.", max_length=256),
]
_Seconds = Annotated[
    Annotated[float, Meta(ge=1, le=1e9)] | None, Meta(description="The run is stopped after so many seconds.")
]


class AgainForm(msgspec.Struct, frozen=True, kw_only=True):
    """The picture, and how the answer is to come."""

    file: Annotated[
        str,
        Meta(description="the picture: PNG, JPEG or WebP, as it was written", extra_json_schema={"format": "binary"}),
    ]
    user: _User
    response_mode: _Mode = None
    model_name: _Model = ""
    deadline_s: _Seconds = None
    webhook_url: str | None = None


class AgainBody(msgspec.Struct, frozen=True, kw_only=True):
    """A picture that is here already, by one of its ids, and how the answer is to come."""

    user: _User | int | float
    upload_file_id: Annotated[str, Meta(description="An upload of this user.")] = ""
    artifact: Annotated[str, Meta(description="A picture that a run made for this user.")] = ""
    response_mode: _Mode = None
    model_name: _Model = ""
    deadline_s: _Seconds = None
    webhook_url: str | None = None
    webhook_events: list[str] | None = None


Asked = tuple[RunRequest, str, Upload | Artifact]
"""The request, the checkpoint that it names, the picture."""

_PLAIN_FIELDS = tuple(name for name in AgainForm.__struct_fields__ if name != "file")
_OF_A_RUN = ("user", "response_mode", "deadline_s", "webhook_url", "webhook_events")


class AgainApi:
    """`POST /v1/runs/from-image`."""

    def __init__(self, runs: DifyApi, again: Again, uploads: Uploads, settings: Settings) -> None:
        self._runs = runs
        self._again = again
        self._uploads = uploads
        self._settings = settings

    def operations(self) -> list[Operation]:
        return [
            Operation(
                method="POST",
                path="/v1/runs/from-image",
                handler=self._from_image,
                scope=Scope.RUN,
                summary="Making a picture again",
                description="From what its file says: Atelier's settings, or A1111's parameters as far as they go. A "
                "run like any other, of a document that ships; its outputs hold the picture (`files`), whether its "
                "pixels are the same (`same_pixels`, `differing_pixels`, `greatest_difference`), and what is "
                "otherwise than it was (`differences`, `notes`).",
                tag="Runs",
                body=AgainBody,
                form=AgainForm,
                headers=RunHeaders,
                answers=RUN_ANSWERS,
                raises=(*REFUSALS, FileNotFound, NoFileUploaded, TooManyFiles, UnsupportedFileType),
            )
        ]

    async def _from_image(self, request: Request, caller: Caller) -> ASGIApp:
        headers = RunHeaders.of(request.scope["headers"])
        is_form = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
        asked, model_name, picture = await (self._sent if is_form else self._named)(request, headers, caller)
        return await self._runs.submit(await self._again.request(asked, picture, model_name), headers)

    async def _sent(self, request: Request, headers: RunHeaders, caller: Caller) -> Asked:
        """With the picture in the form. It becomes an upload of its user, so that the run can read it."""
        form = OneFile(self._uploads, _PLAIN_FIELDS)
        await form.read(request)
        with form.incoming() as incoming:
            texts = form.texts()
            read = read_value({**texts, "user": read_user(texts), "file": ""}, AgainForm, strict=False)
            asked = self._asked(msgspec.structs.asdict(read), headers, caller)
            owner = Owner(caller.app_id, asked.user)
            return asked, read.model_name, await self._uploads.keep(incoming, form.filename, owner)

    async def _named(self, request: Request, headers: RunHeaders, caller: Caller) -> Asked:
        """With the id of a picture that is here. Raises InvalidParam, FileNotFound for one that is not this user's."""
        body = await read_object(request, self._settings.max_body_bytes)
        asked, read = self._asked(body, headers, caller), read_value(body, AgainBody)
        ids = [each for each in (read.upload_file_id, read.artifact) if each]
        if len(ids) != 1:
            raise InvalidParam("Name one picture, by upload_file_id or artifact, or send it as file.", params="file")
        if not is_uuid(ids[0]):
            raise FileNotFound("File not found.")
        return asked, read.model_name, await self._uploads.find(caller, ids[0].lower(), asked.user)

    def _asked(self, written: Mapping[str, Any], headers: RunHeaders, caller: Caller) -> RunRequest:
        """How the run is to be answered; what it runs the picture says. Raises InvalidParam."""
        body = {name: written[name] for name in _OF_A_RUN if written.get(name) is not None}
        return read_run_request({"inputs": {}, **body}, headers, caller, self._settings)
