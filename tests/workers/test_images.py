"""Pictures of others are read as they are meant, and refused in a sentence when they can't be."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from app.errors import NodeFailed
from workers.diffusion.pictures import images
from workers.diffusion.pictures.opening import opened, seen_size

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


def file_of(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def test_a_picture_of_the_right_size_keeps_every_bit():
    content = file_of(Image.fromarray(NOISE))
    assert np.array_equal(images.pixels_of(opened(content), (64, 48)), NOISE)


def test_a_picture_of_another_shape_is_cut_and_not_stretched():
    halves = Image.new("RGB", (100, 40), "red")
    halves.paste("blue", (50, 0, 100, 40))
    square = images.pixels_of(halves, (20, 20))
    assert [tuple(square[10, x]) for x in (2, 17)] == [(255, 0, 0), (0, 0, 255)]
    assert images.pixels_of(Image.fromarray(NOISE), (32, 32)).shape == (32, 32, 3)


def test_a_photograph_is_turned_as_its_camera_was_held():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    picture = opened(file_of(Image.fromarray(NOISE), "JPEG", exif=exif))
    assert picture.size == (48, 64)


def test_what_is_transparent_in_a_picture_is_white():
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert (images.pixels_of(opened(file_of(clear)), (8, 8)) == 255).all()


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [("L", 100, 100), ("1", 1, 255), ("P", 0, 0), ("I;16", 100 * 257, 100), ("CMYK", (0, 0, 0, 0), 255)],
)
def test_pictures_of_all_modes_become_colours(mode, colour, seen):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    picture = opened(file_of(Image.new(mode, (8, 8), colour), kind))
    assert (images.pixels_of(picture, (8, 8)) == seen).all()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<html>not found</html>", "mask is no picture"),
        (b"", "mask is no picture"),
        (b"%PDF-1.7", "mask is no picture"),
        (file_of(Image.fromarray(NOISE))[:2000], "mask is a damaged picture"),
        (file_of(Image.new("1", (12_000, 9_000))), "mask is too large"),
        (file_of(Image.new("1", (20_000, 10_000))), "mask is too large"),
    ],
)
def test_what_cannot_be_read_is_named(content, says):
    for look in (opened, seen_size):
        with pytest.raises(NodeFailed, match=says):
            look(content, "mask")


def test_a_damaged_picture_of_any_kind_is_named():
    content = bytearray(file_of(Image.fromarray(NOISE), "AVIF"))
    content[content.index(b"iloc") + 20] ^= 0xFF
    with pytest.raises(NodeFailed, match="image is a damaged picture"):
        opened(bytes(content))


def test_a_size_is_known_as_it_is_seen_without_the_pixels():
    turned = Image.Exif()
    turned[0x0112] = 6
    assert seen_size(file_of(Image.fromarray(NOISE), "JPEG", exif=turned)) == (48, 64)
    assert seen_size(file_of(Image.fromarray(NOISE), "GIF")[:900]) == (64, 48)


def test_what_is_transparent_in_a_mask_is_painted():
    mask = Image.new("RGBA", (4, 4), (255, 255, 255, 255))
    mask.putpixel((1, 2), (0, 0, 0, 0))
    share = images.share_of(mask, (4, 4), (4, 4))
    assert share[2, 1] == 1
    assert share.sum() == 1


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1"])
def test_without_alpha_what_is_white_is_painted(mode):
    mask = Image.new("L", (4, 4), 0)
    mask.putpixel((1, 2), 255)
    assert images.share_of(mask.convert(mode), (4, 4), (4, 4))[2, 1] == 1


def test_a_mask_of_sixteen_bits_is_as_soft_as_one_of_eight():
    soft = np.linspace(0, 255, 48, dtype=np.uint8).repeat(64).reshape(48, 64)
    one, other = (Image.fromarray(each) for each in (soft, soft.astype(np.uint16) * 257))
    assert (images.share_of(one, (64, 48), (64, 48)) == images.share_of(other, (64, 48), (64, 48))).all()


def test_a_mask_is_cut_as_the_picture_it_belongs_to():
    mask = Image.new("L", (50, 20), 0)  # half the size of its picture, which is cut to its middle
    mask.paste(255, (25, 0, 50, 20))
    share = images.share_of(mask, (100, 40), (40, 40))
    assert share[:, :15].max() == 0
    assert share[:, 25:].min() == 1


def test_a_mask_that_leaves_nothing_to_paint_is_refused():
    with pytest.raises(NodeFailed, match="nothing to paint"):
        images.share_of(Image.new("L", (8, 8), 0), (8, 8), (8, 8))


def test_a_soft_edge_is_mixed_and_the_rest_is_the_originals():
    share = np.zeros((48, 64), np.float32)
    share[:, 32:], share[:, 31] = 1, 0.5
    new = 255 - NOISE
    mixed = images.pasted(new, NOISE, share)
    assert np.array_equal(mixed[:, :31], NOISE[:, :31])
    assert np.array_equal(mixed[:, 32:], new[:, 32:])
    assert set(mixed[:, 31].ravel()) <= {127, 128}


def test_a_thin_stroke_is_not_lost_between_latents():
    share = np.zeros((16, 16), np.float32)
    share[5, :] = 1
    assert images.latent_hole(share, 8)[0, 0].tolist() == [[1, 1], [0, 0]]


def test_pixels_survive_the_way_to_numbers_and_back():
    assert np.array_equal(images.from_unit(images.to_unit(NOISE)), NOISE)
