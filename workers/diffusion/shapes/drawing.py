"""The captioned world that the shipped checkpoint was trained on: one flat shape on a flat background.

Pure numpy and Pillow. The trainer draws its pictures here and the judge takes its templates from here, so that
"a small red star at the top left" means the same to both.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIDE = 64
PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 70, 215),
    "yellow": (245, 215, 40),
    "purple": (140, 50, 170),
    "orange": (245, 140, 30),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
COLOURS = tuple(PALETTE)
SHAPES = ("circle", "square", "triangle", "ring", "star", "cross", "heart")
# Radius in pixels of the 64 px canvas; "" is a scene whose size nobody mentions.
RADII = {"": (14.0, 19.0), "small": (10.0, 12.5), "big": (21.0, 25.0)}
# Where the centre lies, as directions of (x, y); "" is somewhere near the middle.
PLACES: dict[str, tuple[int, int]] = {
    "": (0, 0),
    "center": (0, 0),
    "left": (-1, 0),
    "right": (1, 0),
    "top": (0, -1),
    "bottom": (0, 1),
    "top left": (-1, -1),
    "top right": (1, -1),
    "bottom left": (-1, 1),
    "bottom right": (1, 1),
}
PLACE_SHIFT = (10.0, 14.0)
SIZE_WORDS = {"small": ("small", "small", "tiny", "little"), "big": ("big", "big", "large", "huge")}
_FILLER_TEXT = "masterpiece best quality detailed simple photo drawing picture cute beautiful sharp clean"
_OTHER_TEXT = """
    a an the of on in and with at to background big small large tiny little huge left right top bottom
    upper lower center middle centre side corner one single flat plain , . ! ( ) : shape color colour
    colored image painting illustration art icon logo no not blurry bad ugly text low worst
"""
FILLERS = tuple(_FILLER_TEXT.split())
VOCABULARY = tuple(sorted({*COLOURS, *SHAPES, *FILLERS, *_OTHER_TEXT.split()}))


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows. `size` and `place` are "" when nothing is said of them."""

    colour: str
    shape: str
    background: str
    size: str = ""
    place: str = ""

    @property
    def held_out(self) -> bool:
        """True for the combinations of colour, shape and background (about 8 %) that training never sees."""
        a, b, c = COLOURS.index(self.colour), SHAPES.index(self.shape), COLOURS.index(self.background)
        return (a * 31 + b * 17 + c * 7) % 13 == 0

    def prompt(self) -> str:
        """The plain English sentence for this scene, as the README and the tests write it."""
        size = f"{self.size} " if self.size else ""
        place = f" {_place_phrase(self.place)}" if self.place else ""
        head = f"{size}{self.colour} {self.shape}{place}"
        return f"{_article(head)} {head} on {_article(self.background)} {self.background} background"


def _article(words: str) -> str:
    return "an" if words[0] in "aeiou" else "a"


def _place_phrase(place: str) -> str:
    if place == "center":
        return "in the center"
    return f"on the {place}" if place in ("left", "right") else f"at the {place}"


def _regular(points: int, outer: float, inner: float | None = None) -> list[tuple[float, float]]:
    count = points * 2 if inner else points
    angles = [-math.pi / 2 + 2 * math.pi * i / count for i in range(count)]
    radii = [inner if inner and i % 2 else outer for i in range(count)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _outline(shape: str, r: float) -> list[tuple[float, float]]:
    """The corners of `shape` around the origin, for a nominal radius of `r` pixels."""
    match shape:
        case "triangle":
            return _regular(3, r * 1.15)
        case "star":
            return _regular(5, r * 1.15, r * 0.46)
        case "square":
            a = r * 0.88
            return [(-a, -a), (a, -a), (a, a), (-a, a)]
        case "cross":
            a, w = r, r * 0.33
            corner = [(-w, -a), (w, -a), (w, -w), (a, -w), (a, w), (w, w)]
            return corner + [(-x, -y) for x, y in corner]
        case "heart":
            turns = [2 * math.pi * i / 48 for i in range(48)]
            return [
                (
                    r / 16 * 16 * math.sin(t) ** 3,
                    -r / 16 * (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)),
                )
                for t in turns
            ]
    raise ValueError(f"no outline for {shape!r}")


def coverage(shape: str, cx: float, cy: float, r: float, side: int = SIDE) -> NDArray[np.float32]:
    """How much of each pixel the shape covers: float32 of (side, side) in 0..1, anti-aliased 4 x 4."""
    ss = 4
    canvas = Image.new("L", (side * ss, side * ss), 0)
    draw = ImageDraw.Draw(canvas)
    cx, cy, r = cx * ss, cy * ss, r * ss
    if shape in ("circle", "ring"):
        draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=255)
        if shape == "ring":
            q = r * 0.55
            draw.ellipse((cx - q, cy - q, cx + q, cy + q), fill=0)
    else:
        draw.polygon([(cx + x, cy + y) for x, y in _outline(shape, r)], fill=255)
    return np.asarray(canvas.resize((side, side), Image.Resampling.BOX), np.float32) / np.float32(255)


def random_scene(rng: random.Random) -> Scene:
    """A scene of the training set: never a held-out combination; big shapes have no place but the middle."""
    while True:
        size = rng.choice(["", "", "small", "big"])
        place = rng.choice(list(PLACES)) if size != "big" and rng.random() < 0.8 else ""
        scene = Scene(rng.choice(COLOURS), rng.choice(SHAPES), rng.choice(COLOURS), size, place)
        if scene.colour != scene.background and not scene.held_out:
            return scene


def draw_scene(rng: random.Random, scene: Scene) -> NDArray[np.uint8]:
    """The scene as a (64, 64, 3) uint8 picture, with a little jitter of colour, size and place."""
    low, high = RADII[scene.size]
    dx, dy = PLACES[scene.place]
    if dx or dy:
        high = min(high, 16.0)
    r = rng.uniform(low, high)
    jitter = 2.0 if scene.place else min(max(30 - r, 0.0), 5.0)
    cx = SIDE / 2 + (dx * rng.uniform(*PLACE_SHIFT) if dx else rng.uniform(-jitter, jitter))
    cy = SIDE / 2 + (dy * rng.uniform(*PLACE_SHIFT) if dy else rng.uniform(-jitter, jitter))
    mask = coverage(scene.shape, cx, cy, r)[..., None]
    shape, ground = (
        np.array([v + rng.uniform(-8, 8) for v in PALETTE[name]], np.float32)
        for name in (scene.colour, scene.background)
    )
    picture: NDArray[np.float32] = mask * shape + (1 - mask) * ground
    return picture.clip(0, 255).astype(np.uint8)


def caption(rng: random.Random, scene: Scene) -> str:
    """One of many ways to say what the scene shows; sometimes less than all, sometimes nothing."""
    size = rng.choice(SIZE_WORDS[scene.size]) if scene.size and rng.random() < 0.85 else ""
    place = _say_place(rng, scene.place) if scene.place and rng.random() < 0.9 else ""
    head = " ".join(w for w in (size, scene.colour, scene.shape) if w)
    ground = f"{_article(scene.background)} {scene.background} background"
    roll = rng.random()
    if roll < 0.52:
        words = f"{_article(head)} {head} {place} on {ground}"
    elif roll < 0.62:
        words = f"{head} {place}, {scene.background} background"
    elif roll < 0.69:
        words = f"{_article(head)} {head} on {ground} {place}"
    elif roll < 0.76:
        kind = rng.choice(["a photo of", "a drawing of", "a picture of", "an illustration of", "a painting of"])
        words = f"{kind} {_article(head)} {head} {place} on {ground}"
    elif roll < 0.82:
        words = f"{_article(head)} {head} {place}"
    elif roll < 0.85:
        words = f"{size} {scene.shape} {place} on {ground}"
    elif roll < 0.88:
        words = f"{scene.background} background"
    elif roll < 0.92:
        words = rng.choice([f"{scene.colour} shape", scene.shape, f"{scene.colour} {scene.shape}"])
    else:
        return ""
    return _garnish(rng, " ".join(words.replace(" ,", ",").split()))


def _say_place(rng: random.Random, place: str) -> str:
    if place == "center":
        return rng.choice(["in the center", "in the middle", "in the centre"])
    if " " in place:
        return rng.choice([f"at the {place}", f"in the {place}", f"in the {place} corner", place])
    if place in ("left", "right"):
        return rng.choice([f"on the {place}", f"on the {place} side", f"at the {place}", f"to the {place}"])
    return rng.choice([f"at the {place}", f"on the {place}", f"in the {'upper' if place == 'top' else 'lower'} side"])


def _garnish(rng: random.Random, words: str) -> str:
    """Adds what people put around a prompt, so that it changes nothing at inference either."""
    roll = rng.random()
    if roll < 0.12:
        words = ", ".join([*rng.sample(FILLERS, 2), words])
    elif roll < 0.22:
        words = ", ".join([words, *rng.sample(FILLERS, 2)])
    if rng.random() < 0.04:
        words += ", " + "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 8)))
    return words
