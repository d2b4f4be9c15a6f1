"""The pictures of a request: parts of a form, data URLs, addresses, ids. All are looked at before there is a run."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from app.api.files import is_uuid
from app.api.openai.errors import (
    InvalidImage,
    InvalidType,
    InvalidValue,
    ListTooLong,
    MissingParameter,
    Refusal,
    TextTooLong,
    UnknownParameter,
    UnsupportedFile,
)
from app.api.openai.profiles import Profile
from app.api.pictures.asked import GivenPicture
from app.api.pictures.given import decoded, taken_in
from app.artifacts.incoming import Limits, Seen
from app.errors import FileNotFound

_SUPPORTED = frozenset({"image/jpeg", "image/png", "image/webp"})
_DATA_URL = re.compile(r"data:[\w.+/-]*(?:;[\w.+=-]+)*;base64,", re.IGNORECASE)
_LONGEST_URL = 20_971_520
_LONGEST_HEAD = 200  # characters of a data URL before its base64
_MOST_BYTES = 4 * 1024 * 1024  # of a picture for DALL·E


class Given(msgspec.Struct, frozen=True):
    """The pictures to be changed, the first of them first, and the mask of the first.

    `seen` and `seen_mask`: what was found in those that came with the request.
    """

    images: tuple[GivenPicture, ...]
    mask: GivenPicture | None = None
    seen: tuple[Seen | None, ...] = ()
    seen_mask: Seen | None = None

    @classmethod
    async def of(cls, images: tuple[GivenPicture, ...], mask: GivenPicture | None) -> Given:
        """Looks at them. Raises MissingParameter, UnsupportedFile, InvalidImage, FileTooLarge."""
        if not images:
            raise MissingParameter("image")
        seen = [await _seen(picture, number) for number, picture in enumerate(images, 1)]
        seen_mask = await _seen(mask, len(images) + 1) if mask is not None else None
        return cls(images, mask, tuple(seen), seen_mask)

    def check(self, profile: Profile) -> None:
        """What the model takes of them. Raises Refusal."""
        if len(self.images) > profile.most_images:
            field = self.images[0].field.partition("[")[0]
            raise ListTooLong(field, profile.most_images, len(self.images))
        first, mask = self.seen[0], self.seen_mask
        if profile.takes_squares_alone:
            for seen, picture in ((first, self.images[0]), (mask, self.mask)):
                if seen is not None and picture is not None and picture.content is not None:
                    _check_square(seen, picture.content.size, picture.field)
        if first is not None and mask is not None and (first.width, first.height) != (mask.width, mask.height):
            said = f"{mask.width}x{mask.height}, and the image is {first.width}x{first.height}"
            raise Refusal(f"Invalid mask: it must have the size of the image, but it is {said}.", params="mask")


async def read_images(given: Mapping[str, Any], limits: Limits) -> Given:
    """Of a JSON body: OpenAI's `images` and `mask`, or Ollama's `image`. Raises Refusal, FileNotFound, FileTooLarge."""
    images, single, mask = given.get("images"), given.get("image"), given.get("mask")
    if images is not None and single is not None:
        raise UnknownParameter("image")
    listed: list[GivenPicture] = []
    if single is not None:
        if not isinstance(single, str):
            raise InvalidType("image", "a data URL or an address", single)
        listed.append(await _at(single, "image", limits))
    elif images is not None:
        if not isinstance(images, list):
            raise InvalidType("images", "an array of objects", images)
        if len(images) > 16:
            raise ListTooLong("images", 16, len(images))
        listed = [await _reference(each, f"images[{i}]", limits) for i, each in enumerate(images)]
    masked = None if mask is None else await _reference(mask, "mask", limits)
    return await Given.of(tuple(listed), masked)


async def _reference(value: Any, name: str, limits: Limits) -> GivenPicture:
    """`{"image_url": …}` or `{"file_id": …}`; a text is an `image_url`, too."""
    if isinstance(value, str):
        return await _at(value, name, limits)
    if not isinstance(value, dict):
        raise InvalidType(name, "an object", value)
    said = {key: each for key, each in value.items() if each is not None}
    for key in said:
        if key not in ("image_url", "file_id"):
            raise UnknownParameter(f"{name}.{key}")
    if len(said) != 1:
        raise InvalidValue(f"'{name}' must have exactly one of 'image_url' and 'file_id'.", params=name)
    ((key, place),) = said.items()
    if not isinstance(place, str):
        raise InvalidType(f"{name}.{key}", "a string", place)
    if key == "image_url":
        return await _at(place, f"{name}.image_url", limits)
    if not is_uuid(place):
        raise FileNotFound(f"There is no file '{place[:60]}'.", params=f"{name}.file_id")
    return GivenPicture(file_id=place.lower(), field=f"{name}.file_id")


async def _at(url: str, name: str, limits: Limits) -> GivenPicture:
    """A data URL, decoded; an address, which is fetched later. Raises TextTooLong, InvalidValue, FileTooLarge."""
    if len(url) > _LONGEST_URL:
        raise TextTooLong(name, _LONGEST_URL, len(url))
    if url.startswith(("https://", "http://")):
        return GivenPicture(url=url, field=name)
    head = _DATA_URL.match(url[:_LONGEST_HEAD])
    content = decoded(url[head.end() :]) if head else None
    if content is None:
        said = "Expected an address (https://…) or a picture as a data URL (data:image/png;base64,…)."
        raise InvalidValue(f"Invalid value: '{url[:40]}'. {said}", params=name)
    return msgspec.structs.replace(await taken_in(content, limits), field=name)


async def _seen(picture: GivenPicture, number: int) -> Seen | None:
    """None for what is not here yet. Raises UnsupportedFile, InvalidImage, FileTooLarge."""
    if picture.content is None:
        return None
    seen = await asyncio.to_thread(picture.content.see)
    if seen.mime_type not in _SUPPORTED:
        raise UnsupportedFile(picture.field, seen.mime_type)
    if not (seen.is_whole and seen.width and seen.height):
        raise InvalidImage(number)
    return seen


def _check_square(seen: Seen, size: int, field: str) -> None:
    if seen.mime_type != "image/png" or size >= _MOST_BYTES:
        raise Refusal("Uploaded image must be a PNG and less than 4 MB.", params=field)
    if seen.width != seen.height:
        raise Refusal(f"Uploaded image must be square; it is {seen.width}x{seen.height}.", params=field)
