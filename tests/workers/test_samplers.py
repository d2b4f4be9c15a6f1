"""Names of samplers, in both directions."""

from __future__ import annotations

import pytest
import torch

from app.errors import NodeFailed
from app.graph.tools.samplers import SCHEDULER_ALIASES, SCHEDULERS
from workers.diffusion.drawing.schedulers import SAMPLERS, sampler

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "skip_prk_steps": True}


@pytest.mark.parametrize("each", SAMPLERS.values(), ids=SAMPLERS)
def test_short_name_and_display_name_find_the_sampler(each):
    for name in (each.name, each.title, each.title.upper(), f" {each.name} "):
        assert sampler(name) is each


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(NodeFailed, match=r"no sampler 'warp drive'.*dpmpp_2m_karras"):
        sampler("warp drive")


def test_nothing_is_clipped():
    for each in SAMPLERS.values():
        assert each.scheduler({"beta_schedule": "scaled_linear"}, 5).config.get("clip_sample", False) is False


def test_callers_may_name_each_of_them_and_no_other():
    assert set(SCHEDULERS) == set(SAMPLERS)
    assert {SAMPLERS[name].title.lower() for name in SAMPLERS} <= {*SCHEDULER_ALIASES, *SCHEDULERS}
    assert all(sampler(title).name == name for title, name in SCHEDULER_ALIASES.items())


@pytest.mark.parametrize("each", SAMPLERS.values(), ids=SAMPLERS)
def test_a_perfect_denoiser_is_followed_to_the_picture(each):
    """The picture is grey, so whatever is seen is noise."""
    assert float(followed(each, 12).abs().max()) < 0.3
    for steps in (1, 2, 3):
        assert torch.isfinite(followed(each, steps)).all()


def followed(each, steps):
    scheduler = each.scheduler(SCHEDULE, steps)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 8, 8, generator=generator) * scheduler.init_noise_sigma
    extra = {"generator": generator} if each.takes_generator else {}
    kept = torch.cumprod(1 - scheduler.betas, 0)
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(latents, timestep)
        noise = seen / (1 - kept[int(timestep)]).sqrt()
        latents = scheduler.step(noise, timestep, latents, return_dict=False, **extra)[0]
    return latents
