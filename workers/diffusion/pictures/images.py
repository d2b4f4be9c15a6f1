"""Pictures of others → arrays of the size that is painted, and masks.

A picture of another shape is cut and never stretched: scaled until it covers the size, then cut evenly on both sides.
A picture that has the size already is not touched, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageOps
from PIL.Image import Resampling

from app.errors import NodeFailed

Pixels = NDArray[np.uint8]  # (height, width, 3)
Share = NDArray[np.float32]  # (height, width), of each pixel: 0 is kept, 1 is painted anew
Size = tuple[int, int]  # (width, height)

_PAINTED = 0.5  # from here on a pixel of a soft mask counts as painted where there is only yes and no


def pixels_of(picture: Picture.Image, size: Size) -> Pixels:
    """`picture` cut to `size`; what is transparent in it is white."""
    return np.asarray(cut(_opaque(picture), size))


def pixels_as_they_are(picture: Picture.Image) -> Pixels:
    return pixels_of(picture, picture.size)


def cut(picture: Picture.Image, size: Size, filter: Resampling = Resampling.LANCZOS) -> Picture.Image:
    return picture if picture.size == size else ImageOps.fit(picture, size, filter)


def resized(pixels: Pixels, size: Size) -> Pixels:
    """Lanczos, to exactly `size`."""
    if size == (pixels.shape[1], pixels.shape[0]):
        return pixels
    return np.asarray(Picture.fromarray(pixels).resize(size, Resampling.LANCZOS))


def share_of(mask: Picture.Image, image_size: Size, size: Size) -> Share:
    """How much of each pixel is painted: what is transparent in `mask`, or, in a mask without alpha, what is white.

    An alpha channel that is opaque everywhere counts as none. A mask belongs to the whole picture that it came with, of
    `image_size`, and is cut to `size` as that is. Raises NodeFailed for a mask that leaves nothing to paint.
    """
    alpha = mask.convert("RGBA").getchannel("A") if mask.has_transparency_data else None
    is_seen_through = alpha is not None and alpha.getextrema()[0] != 255
    painted = ImageOps.invert(alpha) if alpha is not None and is_seen_through else _eight_bits(mask).convert("L")
    if painted.size != image_size:
        painted = painted.resize(image_size, Resampling.BILINEAR)
    share = np.asarray(cut(painted, size, Resampling.BILINEAR), np.float32) / np.float32(255)
    if share.max() < _PAINTED:
        said = "The mask leaves nothing to paint: nothing in it is transparent, nor white."
        raise NodeFailed(said, error_type="InvalidParam")
    return share


def pasted(painted: Pixels | Share, original: Pixels, share: Share) -> Pixels:
    """`painted` where the mask says so, `original` elsewhere: its very bits where the share is 0."""
    weight = share[:, :, None]
    return np.rint(painted * weight + original * (1 - weight)).astype(np.uint8)


def mixed(pixels: Pixels, others: Sequence[Pixels], weight: float, share: Share | None) -> Pixels:
    """`pixels` with the mean of `others` in it, as its part `weight`; where there is a share, no more than that."""
    mean: Share = np.stack(others).mean(axis=0, dtype=np.float32)  # of three colours
    part = np.full(pixels.shape[:2], weight, np.float32) if share is None else share * np.float32(weight)
    return pasted(mean, pixels, part)


def hole(share: Share) -> torch.Tensor:
    """(1, 1, height, width): 1 where a pixel is painted and 0 elsewhere."""
    return torch.from_numpy((share >= _PAINTED).astype(np.float32))[None, None]


def latent_hole(share: Share, pixels_per_latent: int) -> torch.Tensor:
    """`hole` at the size of latents: 1 where any pixel of a latent is painted, so that no thin stroke is lost."""
    return torch.nn.functional.max_pool2d(hole(share), pixels_per_latent)


def to_unit(pixels: Pixels) -> torch.Tensor:
    """(1, 3, height, width) from 0 to 1."""
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous()


def from_unit(unit: torch.Tensor) -> Pixels:
    """The way back of `to_unit`, for values that may lie outside 0 and 1."""
    picture: Pixels = eight_bits(unit).cpu().numpy()
    return picture


def eight_bits(unit: torch.Tensor) -> torch.Tensor:
    """As `from_unit`, where the picture lies."""
    return (unit[0].float().clamp(0, 1).permute(1, 2, 0) * 255).round().to(torch.uint8)


def _opaque(picture: Picture.Image) -> Picture.Image:
    if not picture.has_transparency_data:
        return _eight_bits(picture).convert("RGB")
    seen = picture.convert("RGBA")
    ground = Picture.new("RGB", seen.size, "white")
    ground.paste(seen, mask=seen.getchannel("A"))
    return ground


def _eight_bits(picture: Picture.Image) -> Picture.Image:
    """Pillow would cut greys of sixteen bits off at 255 instead of scaling them."""
    if not picture.mode.startswith("I"):
        return picture
    return Picture.fromarray((np.asarray(picture).astype(np.int64) // 257).clip(0, 255).astype(np.uint8))
