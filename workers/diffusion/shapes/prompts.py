"""The scenes that the shipped checkpoint is asked for: by the acceptance test, and by the README's pictures."""

from __future__ import annotations

import random
from itertools import product

from workers.diffusion.shapes.drawing import COLOURS, PLACES, RADII, SHAPES, Scene

SEEN, HELD_OUT = 40, 20  # held out: a combination of colour, shape and background that training never showed


def fixed_scenes() -> list[Scene]:
    """Always the same 60 scenes, through all sizes and places in turn; the last 20 are held out."""
    plain = [Scene(*each) for each in product(COLOURS, SHAPES, COLOURS) if each[0] != each[2]]
    rng = random.Random(60)
    seen = rng.sample([scene for scene in plain if not scene.held_out], SEEN)
    held_out = rng.sample([scene for scene in plain if scene.held_out], HELD_OUT)
    return [_arranged(scene, turn) for turn, scene in enumerate(seen + held_out)]


def _arranged(scene: Scene, turn: int) -> Scene:
    """With a size and a place as training had them: what is big is in the middle."""
    size = list(RADII)[turn % len(RADII)]
    place = list(PLACES)[turn % len(PLACES)] if size != "big" else ""
    return Scene(scene.colour, scene.shape, scene.background, size, place)
