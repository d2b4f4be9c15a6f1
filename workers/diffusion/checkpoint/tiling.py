"""Autoencoders in tiles: a large picture's memory grows with the tile, and not with the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from diffusers import AutoencoderKL

from workers.diffusion.memory import give_back_memory, is_out_of_memory

T = TypeVar("T")

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


def within_memory(vae: AutoencoderKL, pixels: int, work: Callable[[], T]) -> T:
    """What `work` makes of a picture of so many pixels: at once, and in tiles where it is too large for the memory."""
    try:
        with tiled(vae, pixels > MOST_PIXELS):
            return work()
    except RuntimeError as error:
        if vae.use_tiling or pixels > MOST_PIXELS or not is_out_of_memory(error):
            raise
    give_back_memory()  # the error is gone by now, and the tensors that its frames held
    with tiled(vae, True):
        return work()
