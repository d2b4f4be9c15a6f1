"""Autoencoders in tiles: a large picture's memory grows with the tile, and not with the picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers import AutoencoderKL

MOST_PIXELS = 1536 * 1536
"""Up to here a picture goes through as a whole: tiles are seen apart in what they know of the whole's light."""


@contextmanager
def tiled(vae: AutoencoderKL, on: bool) -> Iterator[None]:
    """Inside, what is larger than a tile (the size that the autoencoder was made for) goes through in tiles."""
    before = vae.use_tiling
    vae.use_tiling = on
    try:
        yield
    finally:
        vae.use_tiling = before
