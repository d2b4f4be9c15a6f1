"""Pictures that come inside a JSON body, as base64."""

from __future__ import annotations

import asyncio
import base64
import binascii

from app.api.pictures.asked import GivenPicture
from app.artifacts.incoming import Incoming, Limits
from app.errors import InvalidParam
from app.graph.tools.parameters import PICTURES
from app.settings import Settings

_TOGETHER = 4  # pictures of the largest size that one body may hold


def longest_body(settings: Settings) -> int:
    """Bytes of a JSON body that holds pictures."""
    return settings.max_body_bytes + _TOGETHER * settings.upload_image_mb * 1024 * 1024 * 4 // 3


def decoded(text: str) -> bytes | None:
    """Standard base64 with padding, as Go and Elixir read it; None for anything else. Line breaks are passed over."""
    try:
        return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        return None


async def taken_in(content: bytes, limits: Limits) -> GivenPicture:
    """Raises FileTooLarge."""
    incoming = Incoming("", limits)
    await incoming.write(content)
    return GivenPicture(incoming, "picture")


async def picture_in(content: bytes, place: str, limits: Limits) -> GivenPicture:
    """A picture that is looked at before there is a run. `place`: where in the request it stands.

    Raises InvalidParam for what is none, or is not there as a whole, and FileTooLarge.
    """
    given = await taken_in(content, limits)
    assert given.content is not None
    seen = await asyncio.to_thread(given.content.see)
    if seen.mime_type not in PICTURES or not (seen.is_whole and seen.width and seen.height):
        said = (
            f"{place} is no picture that can be read; send PNG, JPEG, WebP, GIF or BMP, from its first byte to its last"
        )
        raise InvalidParam(said, params=place)
    return given
