"""The parts of a form: texts and pictures, whichever of the names that OpenAI's clients give them."""

from __future__ import annotations

import re
from contextlib import ExitStack

import msgspec
from msgspec.structs import replace
from starlette.requests import Request

from app.api.multipart import Part, read_parts
from app.api.openai.errors import DuplicateParameter, InvalidType, UnknownParameter
from app.api.pictures.asked import GivenPicture
from app.artifacts.incoming import Incoming, Limits, read_filename
from app.errors import BadRequest, NoFileUploaded

_PICTURE = re.compile(r"(image|mask)(?:\[([0-9]{0,3})\])?")
_FILES = {"image": "one of an array of files or file", "mask": "a file"}
_MOST_PICTURES = 17
_LONGEST_FIELD = 256 * 1024  # bytes: a prompt of 32,000 characters of any script


class Form(msgspec.Struct, frozen=True):
    """What a form holds. `images` are in their order."""

    fields: dict[str, str]
    images: tuple[GivenPicture, ...]
    mask: GivenPicture | None


async def read_form(request: Request, limits: Limits, files: ExitStack) -> Form:
    """`files` closes what was opened. Raises Refusal, BadRequest for what can't be read, FileTooLarge."""
    reading = _Reading(limits, files)
    try:
        async for event in read_parts(request, _MOST_PICTURES * limits.image + _LONGEST_FIELD):
            if isinstance(event, Part):
                reading.begin(event)
            else:
                await reading.take(event)
    except NoFileUploaded:  # as an upload's form would say it
        raise BadRequest("The form can't be read: its Content-Type names no boundary.") from None
    return reading.form()


class _Reading:
    def __init__(self, limits: Limits, files: ExitStack) -> None:
        self._limits = limits
        self._files = files
        self._texts: dict[str, bytearray] = {}
        self._pictures: list[tuple[str, int, GivenPicture]] = []
        self._now: Incoming | bytearray | InvalidType = bytearray()

    def begin(self, part: Part) -> None:
        found = _PICTURE.fullmatch(part.name)
        if found is None and part.filename is not None:
            raise UnknownParameter(part.name)
        if found is None:
            if part.name in self._texts:
                raise DuplicateParameter(part.name)
            self._now = self._texts[part.name] = bytearray()
            return
        if part.filename is None:
            self._now = InvalidType(found[1], _FILES[found[1]], "")  # unless it is empty, as texts may be
            return
        self._now = self._files.enter_context(Incoming("", self._limits))
        number = int(found[2]) if found[2] else len(self._pictures)
        picture = GivenPicture(self._now, _plain(part.filename or ""), field=found[1])
        self._pictures.append((found[1], number, picture))

    async def take(self, piece: bytes) -> None:
        if isinstance(self._now, InvalidType):
            raise self._now
        if isinstance(self._now, Incoming):
            await self._now.write(piece)
            return
        self._now += piece
        if len(self._now) > _LONGEST_FIELD:
            raise BadRequest(f"A field of the form may have {_LONGEST_FIELD} bytes.")

    def form(self) -> Form:
        ordered = sorted((each for each in self._pictures if not _is_blank(each[2])), key=lambda each: each[1])
        masks = [picture for name, _, picture in ordered if name == "mask"]
        if len(masks) > 1:
            raise DuplicateParameter("mask")
        images = _named([picture for name, _, picture in ordered if name == "image"])
        texts = {name: text.decode("utf-8", "replace") for name, text in self._texts.items()}
        return Form(texts, images, masks[0] if masks else None)


def _is_blank(picture: GivenPicture) -> bool:
    """What browsers send of a form's field where no file was chosen."""
    return not picture.filename and picture.content is not None and picture.content.size == 0


def _named(images: list[GivenPicture]) -> tuple[GivenPicture, ...]:
    """Several pictures are told apart by their numbers, whichever names they came under."""
    if len(images) == 1:
        return tuple(images)
    return tuple(replace(picture, field=f"image[{number}]") for number, picture in enumerate(images))


def _plain(filename: str) -> str:
    """The name without the folders that some clients put before it."""
    return read_filename(re.split(r"[/\\]", filename)[-1])[0]
