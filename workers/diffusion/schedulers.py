"""Sampler names as people know them → diffusers' schedulers.

Each name has one scheduler class with what sets it apart; all start from the checkpoint's own noise schedule. "DPM++
SDE" is the single-step SDE solver and not DPMSolverSDEScheduler, which draws its noise from a tree of its own and
ignores the request's generator. Nothing is ever clipped (`clip_sample`), because latents are not pixels.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
from diffusers import SchedulerMixin

from app.errors import NodeFailed


@dataclass(frozen=True, slots=True)
class Sampler:
    """`name` is what Atelier calls it, `title` what AUTOMATIC1111 writes into its pictures."""

    name: str
    title: str
    kind: type[SchedulerMixin]
    options: Mapping[str, Any] = field(default_factory=dict)

    def scheduler(self, schedule: Mapping[str, Any], steps: int) -> SchedulerMixin:
        """A new scheduler with its timesteps set, on the CPU: there its scalars cost no waiting for a GPU.

        Raises NodeFailed where the sampler can't be had in `steps` steps.
        """
        options = {"clip_sample": False} if "clip_sample" in inspect.signature(self.kind).parameters else {}
        scheduler = self.kind.from_config(dict(schedule), **options, **self.options)
        try:
            scheduler.set_timesteps(steps)
        except (ValueError, IndexError) as error:
            raise NodeFailed(f"The sampler {self.title} can't work in {steps} steps: {error}") from error
        return scheduler

    @property
    def takes_generator(self) -> bool:
        """True for the samplers that add noise on their way."""
        return "generator" in inspect.signature(self.kind.step).parameters


_ALL = (
    Sampler("euler", "Euler", diffusers.EulerDiscreteScheduler),
    Sampler("euler_a", "Euler a", diffusers.EulerAncestralDiscreteScheduler),
    Sampler("heun", "Heun", diffusers.HeunDiscreteScheduler),
    Sampler("ddim", "DDIM", diffusers.DDIMScheduler),
    Sampler("ddpm", "DDPM", diffusers.DDPMScheduler),
    Sampler("dpmpp_2m", "DPM++ 2M", diffusers.DPMSolverMultistepScheduler),
    Sampler("dpmpp_2m_karras", "DPM++ 2M Karras", diffusers.DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    Sampler(
        "dpmpp_sde",
        "DPM++ SDE",
        diffusers.DPMSolverSinglestepScheduler,
        {"algorithm_type": "sde-dpmsolver++", "lower_order_final": True},
    ),
    Sampler("lms", "LMS", diffusers.LMSDiscreteScheduler),
    Sampler("pndm", "PLMS", diffusers.PNDMScheduler),
    Sampler("unipc", "UniPC", diffusers.UniPCMultistepScheduler),
    Sampler("lcm", "LCM", diffusers.LCMScheduler),
)
SAMPLERS = {each.name: each for each in _ALL}
_BY_TITLE = {each.title.lower(): each for each in _ALL}


def sampler(name: str) -> Sampler:
    """The sampler of a short name or a display name, in any case. Raises NodeFailed for a name that nobody knows."""
    wanted = name.strip().lower()
    found = SAMPLERS.get(wanted) or _BY_TITLE.get(wanted)
    if found is None:
        raise NodeFailed(f"There is no sampler {name!r}. There are: {', '.join(SAMPLERS)}.")
    return found
