"""What other servers call quality and style, as settings that Stable Diffusion has: the same in all dialects."""

from __future__ import annotations

QUALITY_STEPS = {"low": 15, "medium": 30, "high": 50, "xhigh": 75, "max": 100}
"""Denoising steps of a quality. Any other, as `auto`, leaves them to the checkpoint."""

QUALITY_NAMES = {"standard": "medium", "hd": "high"}
"""DALL·E's names of qualities."""

STYLE_WORDS = {"vivid": "vivid colors, dramatic", "natural": "natural, realistic"}
"""What a style adds to the end of the prompt."""

VARIATION_STRENGTH = 0.6
"""How far a variation goes from its picture, where nothing else is said."""

REFERENCED_STRENGTH = 0.9
"""How far a masked part goes that has references: at 1 it would begin as noise, and have nothing of them."""


def steps_of(quality: str) -> int | None:
    """None: as the checkpoint has it."""
    return QUALITY_STEPS.get(QUALITY_NAMES.get(quality, quality))


def styled(prompt: str, style: str) -> str:
    """The prompt in a style; empty or unknown: as it is."""
    return f"{prompt}, {STYLE_WORDS[style]}" if style in STYLE_WORDS else prompt
