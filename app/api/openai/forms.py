"""The parts of a form: texts and pictures, whichever of the names that OpenAI's clients give them."""

from __future__ import annotations

import re
from contextlib import ExitStack

import msgspec
from starlette.requests import Request

from app.api.multipart import Part, read_parts
from app.api.openai.errors import InvalidType, UnknownParameter
from app.api.pictures.asked import GivenPicture
from app.artifacts.incoming import Incoming, Limits, read_filename
from app.errors import BadRequest

_PICTURE = re.compile(r"(image|mask)(?:\[([0-9]{0,3})\])?")
_MOST_PICTURES = 17
_LONGEST_FIELD = 256 * 1024  # bytes: a prompt of 32,000 characters of any script


class Form(msgspec.Struct, frozen=True):
    """What a form holds. `images` are in their order."""

    fields: dict[str, str]
    images: tuple[GivenPicture, ...]
    mask: GivenPicture | None


async def read_form(request: Request, limits: Limits, files: ExitStack) -> Form:
    """`files` closes what was opened. Raises what `read_parts` raises, InvalidType, UnknownParameter, FileTooLarge."""
    reading = _Reading(limits, files)
    async for event in read_parts(request, _MOST_PICTURES * limits.image + _LONGEST_FIELD):
        if isinstance(event, Part):
            reading.begin(event)
        else:
            await reading.take(event)
    return reading.form()


class _Reading:
    def __init__(self, limits: Limits, files: ExitStack) -> None:
        self._limits = limits
        self._files = files
        self._texts: dict[str, bytearray] = {}
        self._pictures: list[tuple[str, int, GivenPicture]] = []
        self._now: Incoming | bytearray = bytearray()

    def begin(self, part: Part) -> None:
        found = _PICTURE.fullmatch(part.name)
        if found is None and part.filename is not None:
            raise UnknownParameter(part.name)
        if found is not None and part.filename is None:
            raise InvalidType(found[1], "one of an array of files or file", "")
        if found is None:
            self._now = self._texts[part.name] = bytearray()
            return
        self._now = self._files.enter_context(Incoming("", self._limits))
        number = int(found[2]) if found[2] else len(self._pictures)
        self._pictures.append((found[1], number, GivenPicture(self._now, _plain(part.filename or ""))))

    async def take(self, piece: bytes) -> None:
        if isinstance(self._now, Incoming):
            await self._now.write(piece)
            return
        self._now += piece
        if len(self._now) > _LONGEST_FIELD:
            raise BadRequest(f"A field of the form may have {_LONGEST_FIELD} bytes.")

    def form(self) -> Form:
        ordered = sorted(self._pictures, key=lambda each: each[1])
        masks = [picture for name, _, picture in ordered if name == "mask"]
        if len(masks) > 1:
            raise InvalidType("mask", "a file", masks)
        images = tuple(picture for name, _, picture in ordered if name == "image")
        texts = {name: text.decode("utf-8", "replace") for name, text in self._texts.items()}
        return Form(texts, images, masks[0] if masks else None)


def _plain(filename: str) -> str:
    """The name without the folders that some clients put before it."""
    return read_filename(re.split(r"[/\\]", filename)[-1])[0]
