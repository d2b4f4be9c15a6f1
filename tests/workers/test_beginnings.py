"""The noise that pictures begin with, and how much of it."""

from __future__ import annotations

import pytest
import torch

from workers.diffusion.drawing.beginnings import calls_left, noise, turned
from workers.diffusion.drawing.schedulers import SAMPLERS

SHAPE = (1, 4, 16, 16)


def of(seed, variation=(0, 0.0)) -> torch.Tensor:
    return noise(SHAPE, torch.Generator().manual_seed(seed), torch.float32, variation)


def test_a_variation_lies_between_two_seeds():
    assert torch.equal(of(1, (2, 0.0)), of(1))
    assert torch.allclose(of(1, (2, 1.0)), of(2), atol=1e-6)
    near, far = ((of(1, (2, share)) - of(1)).norm() for share in (0.1, 0.6))
    assert 0 < near < far


def test_a_variation_is_noise_as_strong_as_any():
    assert of(1, (2, 0.5)).std() == pytest.approx(1, abs=0.05)
    assert torch.allclose(turned(of(1), of(1), 0.5), of(1))


@pytest.mark.parametrize("name", ["euler_a", "heun", "ddim", "pndm", "lcm"])
@pytest.mark.parametrize(("strength", "left"), [(1.0, 8), (0.5, 4), (0.01, 1)])
def test_strength_says_how_many_steps_are_left(name, strength, left):
    scheduler = SAMPLERS[name].scheduler({"beta_schedule": "scaled_linear"}, 8)
    timesteps = calls_left(scheduler, 8, strength)
    assert len(timesteps) == len(scheduler.timesteps) - (8 - left) * scheduler.order
    assert torch.equal(timesteps, scheduler.timesteps[len(scheduler.timesteps) - len(timesteps) :])
