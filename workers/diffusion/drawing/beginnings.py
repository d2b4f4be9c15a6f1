"""What a drawing begins with: noise, or a picture under as much noise as is to be painted anew.

Whatever is drawn by chance comes from generators on the CPU, so that a seed means the same picture on every device, and
in the order in which diffusers draws it, so that it is the same picture there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor

_ALIKE = 0.9995  # the cosine from which on there is no angle to turn by


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A picture of which a drawing repaints only a part: its `latents`, the drawing's first `noise`, and the `hole`.

    The hole is (1, 1, height, width) of 1 where there is to be paint.
    """

    latents: torch.Tensor
    noise: torch.Tensor
    hole: torch.Tensor

    def around(self, painted: torch.Tensor, scheduler: SchedulerMixin, upcoming: torch.Tensor | None) -> torch.Tensor:
        """`painted` in the hole; around it the picture under the noise of the `upcoming` timestep, None at the end."""
        around = self.latents
        if upcoming is not None:
            around = scheduler.add_noise(around, self.noise, upcoming.reshape(1))
        return (1 - self.hole) * around + self.hole * painted


def noise(
    shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, variation: tuple[int, float] = (0, 0.0)
) -> torch.Tensor:
    """From `generator`, on the CPU; turned by (seed, strength) of `variation` towards that seed's, which it is at 1."""
    own: torch.Tensor = randn_tensor(shape, generator=generator, dtype=dtype)
    seed, strength = variation
    if not strength:
        return own
    other = randn_tensor(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return turned(own.float(), other.float(), strength).to(dtype)


def turned(one: torch.Tensor, other: torch.Tensor, share: float) -> torch.Tensor:
    """From `one` to `other` on the arc between them: halfway on a line noise would be too weak to be noise."""
    cosine = torch.dot(one.flatten() / one.norm(), other.flatten() / other.norm()).clamp(-1, 1)
    if cosine > _ALIKE:
        return one + share * (other - one)
    angle = torch.acos(cosine)
    return (torch.sin((1 - share) * angle) * one + torch.sin(share * angle) * other) / torch.sin(angle)


def calls_left(scheduler: SchedulerMixin, steps: int, strength: float) -> torch.Tensor:
    """The timesteps that are left of `steps` for a picture that is changed by `strength`, at least one step of them.

    The scheduler is told where it begins.
    """
    skipped = (steps - min(max(int(steps * strength), 1), steps)) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(skipped)
    timesteps: torch.Tensor = scheduler.timesteps[skipped:]
    return timesteps
