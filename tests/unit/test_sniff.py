import io

import pytest

from app.artifacts.bombs import MOST_PIXELS, picture_size, refuse_bomb
from app.artifacts.sniff import is_inert, is_raster, sniff_head
from app.errors import FileTooLarge
from tests import media


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "AVIF"])
def test_the_size_of_a_picture_is_read_from_its_header(kind):
    content = media.picture(kind, (37, 21))
    assert picture_size(f"image/{kind.lower()}", content[:8192], io.BytesIO(content)) == (37, 21)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_a_picture_that_breaks_off_has_no_size(kind):
    for length in range(30):
        content = media.picture(kind)[:length]
        picture_size(f"image/{kind.lower()}", content, io.BytesIO(content))


def test_a_jpegs_preview_is_not_its_size():
    inner = media.picture("JPEG", (4, 4))
    content = media.picture("JPEG", (50, 40))
    content = content[:2] + b"\xff\xe1" + (len(inner) + 2).to_bytes(2) + inner + content[2:]
    assert picture_size("image/jpeg", content[:8192], io.BytesIO(content)) == (50, 40)


@pytest.mark.parametrize(("side", "is_refused"), [(10_000, False), (10_001, True)])
def test_a_picture_has_so_many_pixels_at_most(side, is_refused):
    content = media.png_bomb(side)
    assert (side * side > MOST_PIXELS) == is_refused
    try:
        refuse_bomb("image/png", content, io.BytesIO(content))
        assert not is_refused
    except FileTooLarge:
        assert is_refused


def test_an_archive_whose_list_lies_about_its_length_is_none():
    whole = media.archive({"a": b"x"})
    at = whole.rfind(b"PK\5\6")
    lies = whole[: at + 12] + b"\xff\xff\xff\xff" + whole[at + 16 :]
    with pytest.raises(FileTooLarge):
        refuse_bomb("application/zip", lies, io.BytesIO(lies))
    for length in range(0, len(whole), 7):
        assert refuse_bomb("application/zip", whole[:length], io.BytesIO(whole[:length])) is None


@pytest.mark.parametrize(
    "mime_type",
    [
        *("text/html", "image/svg+xml", "application/xhtml+xml", "text/xml", "application/xml", "text/javascript"),
        *("application/javascript", "application/rss+xml", "application/vnd.mozilla.xul+xml", "TEXT/HTML; charset=x"),
        *("multipart/x-mixed-replace", "message/rfc822", "text/css", "application/x-shockwave-flash", ""),
    ],
)
def test_what_could_be_run_is_not_inert(mime_type):
    assert not is_inert(mime_type)


def test_pictures_sounds_and_papers_are_inert():
    for mime_type in ("image/png", "audio/mpeg", "video/mp4", "text/plain; charset=utf-8", "application/pdf"):
        assert is_inert(mime_type)
    assert is_raster("image/webp")
    assert not is_raster("image/svg+xml")


@pytest.mark.parametrize(
    "content",
    [
        b"<svg/onload=alert(1)>",
        b"\xef\xbb\xbf\r\n<!DOCTYPE html>",
        b"<!-- a --><SCRIPT>",
        b"<?xml version='1.0'?><x:html xmlns:x='http://www.w3.org/1999/xhtml'/>",
        b"GIF8<script>alert(1)</script>",
        "<html>".encode("utf-16-be"),
    ],
)
def test_no_page_is_taken_for_a_picture(content):
    assert not is_inert(sniff_head(content, ".png")) or sniff_head(content, ".png") in (
        "text/plain",
        "application/octet-stream",
    )
    assert not is_raster(sniff_head(content, ".png"))
