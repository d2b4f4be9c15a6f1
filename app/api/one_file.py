"""A form with one file in the part `file`, and some plain fields beside it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.requests import Request

from app.api.multipart import Part, read_parts
from app.artifacts.incoming import Incoming
from app.errors import BadRequest, NoFileUploaded, TooManyFiles
from app.runs.uploads import Uploads

_MOST_BESIDES = 1024 * 1024  # bytes of what a form may have besides its file
_LONGEST_FIELD = 64 * 1024


class OneFile:
    """A form as it comes: the first part `file` goes where files go, the fields that are asked for are kept, the first
    of each name; the rest is passed over."""

    def __init__(self, uploads: Uploads, fields: Iterable[str]) -> None:
        self._uploads = uploads
        self._fields: dict[str, bytearray | None] = dict.fromkeys(fields)
        self._file_fields: set[str] = set()
        self._incoming: Incoming | None = None
        self._now: Any = None  # where the bytes of the current part go
        self.filename = ""

    async def read(self, request: Request) -> None:
        """Raises what `read_parts` raises, BadRequest for a field that is too long, FileTooLarge."""
        async for event in read_parts(request, self._uploads.limits.largest + _MOST_BESIDES):
            await self._take(event)

    async def _take(self, event: Part | bytes) -> None:
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
            if self._fields.get(part.name, b"") is not None:  # nobody asks for it, or it has come before
                return None
            field = self._fields[part.name] = bytearray()
            return field
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

    def texts(self) -> dict[str, str]:
        """The fields that came with something in them."""
        found = {name: field.decode("utf-8", "replace") for name, field in self._fields.items() if field}
        return {name: text for name, text in found.items() if text.strip()}
