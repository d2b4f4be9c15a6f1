"""Sampler names as people know them → diffusers' schedulers.

Each name has one scheduler class with what sets it apart; all start from the checkpoint's own noise schedule. "DPM++
SDE" is the single-step SDE solver and not DPMSolverSDEScheduler, which draws its noise from a tree of its own and
ignores the request's generator. Nothing is ever clipped (`clip_sample`), because latents are not pixels.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import diffusers
from diffusers import SchedulerMixin

from app.errors import NodeFailed

_KEPT = 64  # of the last schedulers that were made, some 20 KB each


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
        try:
            return deepcopy(_made(self.name, json.dumps(dict(schedule), sort_keys=True), steps))
        except (ValueError, IndexError) as error:
            said = f"The sampler {self.title} can't work in {steps} steps: {error}"
            raise NodeFailed(said, error_type="InvalidParam") from error

    @property
    def takes_generator(self) -> bool:
        """True for the samplers that add noise on their way."""
        return "generator" in inspect.signature(self.kind.step).parameters

    def spaced(self) -> Iterator[Sampler]:
        """The sampler itself, then with its steps spaced in the other ways that it can."""
        yield self
        known = inspect.signature(self.kind).parameters
        for name, title, option in _SPACINGS:
            if option in known:
                yield replace(
                    self,
                    name=f"{self.name}_{name}",
                    title=f"{self.title} {title}",
                    options={**self.options, option: True},
                )


@lru_cache(_KEPT)
def _made(name: str, schedule: str, steps: int) -> SchedulerMixin:
    """To be copied: making one takes longer than the rest of what it takes to begin. Raises ValueError, IndexError."""
    how = SAMPLERS[name]
    options = {"clip_sample": False} if "clip_sample" in inspect.signature(how.kind).parameters else {}
    scheduler = how.kind.from_config(json.loads(schedule), **options, **how.options)
    scheduler.set_timesteps(steps)
    return scheduler


_SPACINGS = (("karras", "Karras", "use_karras_sigmas"), ("exponential", "Exponential", "use_exponential_sigmas"))
_SDE = {"algorithm_type": "sde-dpmsolver++"}
_SINGLE_STEP = {"lower_order_final": True}
_SGM = {"timestep_spacing": "trailing"}  # what checkpoints that were distilled to a few steps were made for

_SPACED = (
    Sampler("euler", "Euler", diffusers.EulerDiscreteScheduler),
    Sampler("euler_a", "Euler a", diffusers.EulerAncestralDiscreteScheduler),
    Sampler("heun", "Heun", diffusers.HeunDiscreteScheduler),
    Sampler("dpm2", "DPM2", diffusers.KDPM2DiscreteScheduler),
    Sampler("dpm2_a", "DPM2 a", diffusers.KDPM2AncestralDiscreteScheduler),
    Sampler("dpmpp_2m", "DPM++ 2M", diffusers.DPMSolverMultistepScheduler),
    Sampler("dpmpp_2m_sde", "DPM++ 2M SDE", diffusers.DPMSolverMultistepScheduler, _SDE),
    Sampler("dpmpp_3m_sde", "DPM++ 3M SDE", diffusers.DPMSolverMultistepScheduler, {**_SDE, "solver_order": 3}),
    Sampler("dpmpp_2s", "DPM++ 2S", diffusers.DPMSolverSinglestepScheduler, _SINGLE_STEP),
    Sampler("dpmpp_sde", "DPM++ SDE", diffusers.DPMSolverSinglestepScheduler, {**_SDE, **_SINGLE_STEP}),
    Sampler("lms", "LMS", diffusers.LMSDiscreteScheduler),
    Sampler("unipc", "UniPC", diffusers.UniPCMultistepScheduler),
    Sampler("deis", "DEIS", diffusers.DEISMultistepScheduler),
    Sampler("sa", "SA-Solver", diffusers.SASolverScheduler),
    Sampler("ddim", "DDIM", diffusers.DDIMScheduler),
    Sampler("ddpm", "DDPM", diffusers.DDPMScheduler),
    Sampler("pndm", "PLMS", diffusers.PNDMScheduler),
    Sampler("lcm", "LCM", diffusers.LCMScheduler),
    Sampler("tcd", "TCD", diffusers.TCDScheduler),
)
_FOR_FEW_STEPS = (
    Sampler("euler_sgm_uniform", "Euler SGM Uniform", diffusers.EulerDiscreteScheduler, _SGM),
    Sampler("euler_a_sgm_uniform", "Euler a SGM Uniform", diffusers.EulerAncestralDiscreteScheduler, _SGM),
    Sampler("dpmpp_2m_sgm_uniform", "DPM++ 2M SGM Uniform", diffusers.DPMSolverMultistepScheduler, _SGM),
    Sampler("ddim_sgm_uniform", "DDIM SGM Uniform", diffusers.DDIMScheduler, _SGM),
)
SAMPLERS = {each.name: each for plain in _SPACED for each in plain.spaced()} | {
    each.name: each for each in _FOR_FEW_STEPS
}
_BY_TITLE = {each.title.lower(): each for each in SAMPLERS.values()}


def sampler(name: str) -> Sampler:
    """The sampler of a short name or a display name, in any case. Raises NodeFailed for a name that nobody knows."""
    wanted = name.strip().lower()
    found = SAMPLERS.get(wanted) or _BY_TITLE.get(wanted)
    if found is None:
        raise NodeFailed(f"There is no sampler {name!r}. There are: {', '.join(SAMPLERS)}.")
    return found
