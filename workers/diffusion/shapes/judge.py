"""What does a picture show? The measure of the shipped checkpoint, by the templates of `drawing` and without learning.

Pure numpy and Pillow. Colours are the nearest of the palette; the shape is the one whose template covers the same
pixels best; size and place are that template's radius and centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from workers.diffusion.shapes.drawing import PALETTE, PLACE_SHIFT, PLACES, RADII, SHAPES, SIDE, Scene, coverage

Mask = NDArray[np.float32]

# Half way between the classes: px of radius, and px of the centre's distance from the picture's.
SMALL_BELOW = (RADII["small"][1] + RADII[""][0]) / 2
BIG_ABOVE = (RADII[""][1] + RADII["big"][0]) / 2
ASIDE_FROM = (5.0 + PLACE_SHIFT[0]) / 2


@dataclass(frozen=True, slots=True)
class Fit:
    """A template laid over the picture: its centre and radius in px, and the overlap (0 to 1) with what is there."""

    shape: str
    x: float
    y: float
    radius: float
    overlap: float


def judge(picture: NDArray[np.uint8]) -> Scene:
    """The scene that a (64, 64, 3) uint8 picture shows. Size "" is neither small nor big, place "" is the middle."""
    pixels = picture.astype(np.float32)
    rim = np.concatenate([pixels[:2].reshape(-1, 3), pixels[-2:].reshape(-1, 3), pixels[:, 0], pixels[:, -1]])
    ground: Mask = np.median(rim, axis=0).astype(np.float32)
    colour = _foreground(pixels, ground)
    fit = best_fit(_mask(pixels, ground, colour))
    return Scene(_nearest(colour), fit.shape, _nearest(ground), _size(fit.radius), _place(fit.x, fit.y))


def best_fit(mask: Mask) -> Fit:
    """The shape that covers `mask`, float32 of (64, 64) in 0..1, best: all tried roughly, then three finely."""
    rough = sorted((_rough_fit(shape, mask) for shape in SHAPES), key=lambda fit: fit.overlap)
    return max((_refined(fit, mask) for fit in rough[-3:]), key=lambda fit: fit.overlap)


def _foreground(pixels: Mask, ground: Mask) -> Mask:
    """The median colour of what is clearly not ground: further from it than half of the furthest."""
    distance = np.linalg.norm(pixels - ground, axis=-1)
    chosen = pixels[distance > max(np.quantile(distance, 0.99) / 2, 1.0)]
    colour: Mask = np.median(chosen, axis=0).astype(np.float32) if len(chosen) else ground
    return colour


def _mask(pixels: Mask, ground: Mask, colour: Mask) -> Mask:
    """How far each pixel is on the way from the ground's colour (0) to the shape's (1)."""
    axis = colour - ground
    share = (pixels - ground) @ axis / np.float32(max(float(axis @ axis), 1.0))
    return share.clip(0, 1).astype(np.float32)


def _rough_fit(shape: str, mask: Mask) -> Fit:
    """The template of the same area around the same centre of mass."""
    area, shift = _area_and_shift(shape)
    mass = max(float(mask.sum()), 1.0)
    radius = min(math.sqrt(mass / area), SIDE / 2)
    at = np.arange(SIDE) + 0.5
    x, y = float(mask.sum(0) @ at) / mass, float(mask.sum(1) @ at) / mass - shift * radius
    return Fit(shape, x, y, radius, _overlap(coverage(shape, x, y, radius), mask))


def _refined(fit: Fit, mask: Mask) -> Fit:
    """The best of the 27 templates around `fit`: half a pixel to each side, and 4 % smaller or bigger."""
    near = product((-0.5, 0, 0.5), (-0.5, 0, 0.5), (0.96, 1, 1.04))
    tries = [(fit.x + dx, fit.y + dy, fit.radius * scale) for dx, dy, scale in near]
    fits = [Fit(fit.shape, x, y, r, _overlap(coverage(fit.shape, x, y, r), mask)) for x, y, r in tries]
    return max(fits, key=lambda each: each.overlap)


def _overlap(one: Mask, other: Mask) -> float:
    """Intersection over union of two soft masks."""
    return float(np.minimum(one, other).sum() / max(np.maximum(one, other).sum(), 1.0))


@cache
def _area_and_shift(shape: str) -> tuple[float, float]:
    """For a radius of 1: the area, and how far below its nominal centre the centre of mass lies."""
    radius = 24.0
    mask = coverage(shape, SIDE / 2, SIDE / 2, radius)
    below = float(mask.sum(1) @ (np.arange(SIDE) + 0.5)) / float(mask.sum()) - SIDE / 2
    return float(mask.sum()) / radius**2, below / radius


def _nearest(colour: Mask) -> str:
    return min(PALETTE, key=lambda name: float(np.linalg.norm(colour - np.array(PALETTE[name], np.float32))))


def _size(radius: float) -> str:
    return "small" if radius < SMALL_BELOW else "big" if radius > BIG_ABOVE else ""


def _place(x: float, y: float) -> str:
    direction = tuple(0 if abs(v - SIDE / 2) < ASIDE_FROM else 1 if v > SIDE / 2 else -1 for v in (x, y))
    return next(name for name, towards in PLACES.items() if towards == direction)
