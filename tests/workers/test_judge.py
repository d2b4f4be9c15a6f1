"""The judge is right about pictures whose content is known."""

from __future__ import annotations

import random
from dataclasses import replace

from workers.diffusion.shapes.drawing import draw_scene, random_scene
from workers.diffusion.shapes.judge import judge
from workers.diffusion.shapes.prompts import fixed_scenes


def test_the_judge_sees_what_was_drawn():
    rng, right = random.Random(1), 0
    for _ in range(400):
        scene = random_scene(rng)
        seen = judge(draw_scene(rng, scene))
        right += seen == replace(scene, place="" if scene.place == "center" else scene.place)
    assert right >= 0.99 * 400


def test_the_fixed_scenes_are_always_the_same_60():
    scenes = fixed_scenes()
    assert scenes == fixed_scenes()
    assert (len(set(scenes)), sum(scene.held_out for scene in scenes)) == (60, 20)
    assert len({scene.place for scene in scenes}) == 10
    assert {scene.size for scene in scenes} == {"", "small", "big"}
