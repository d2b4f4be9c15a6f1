"""A picture file that is cut off or garbled is known without decoding it."""

from __future__ import annotations

import asyncio
import io

import pytest
from PIL import Image

from app.artifacts.incoming import Incoming, Limits, Seen

MB = 1024 * 1024


def drawn(kind: str, side: int = 600) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((side, side), 90).convert("RGB").save(out, kind)
    return out.getvalue()


def seen(content: bytes) -> Seen:
    with Incoming("", Limits(MB, 10 * MB, MB, MB)) as incoming:
        asyncio.run(incoming.write(content))
        return incoming.see()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("side", [8, 600])
def test_a_picture_that_is_cut_off_is_known(kind: str, side: int) -> None:
    content = drawn(kind, side)
    assert seen(content) == Seen(f"image/{kind.lower()}", side, side, True)
    assert seen(content + b"what others put behind it").is_whole
    assert not any(seen(content[: len(content) * part // 10]).is_whole for part in range(5, 10))


def test_a_png_whose_pixels_are_garbled_is_known() -> None:
    content = bytearray(drawn("PNG"))
    content[len(content) // 2] ^= 1
    assert not seen(bytes(content)).is_whole


def test_what_begins_like_a_picture_is_none() -> None:
    assert not any(seen(head + bytes(100)).is_whole for head in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))
    assert seen(b"RIFF\0\0\0\0WEBP" + bytes(100)).width is None
