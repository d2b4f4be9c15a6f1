"""Pictures that come inside a JSON body, as base64."""

from __future__ import annotations

import base64
import binascii

from app.api.pictures.asked import GivenPicture
from app.artifacts.incoming import Incoming, Limits
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
