"""Names of samplers, in both directions."""

from __future__ import annotations

import pytest

from app.errors import NodeFailed
from workers.diffusion.schedulers import SAMPLERS, sampler


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
