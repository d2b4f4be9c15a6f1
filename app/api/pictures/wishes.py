"""What other servers call quality, style and fidelity, as what Stable Diffusion has: the same in all dialects."""

from __future__ import annotations

from collections.abc import Mapping

STYLES: Mapping[str, str] = {
    "vivid": "vivid colors, dramatic lighting, highly detailed",
    "natural": "natural colors, natural light, realistic",
}
"""What is put behind a prompt for a style."""

EFFORTS: Mapping[str, float] = {"low": 0.5, "medium": 1.0, "high": 5 / 3, "xhigh": 2.5, "max": 10 / 3}
"""How many times a model's own steps are made for a quality: of 30 these are 15, 30, 50, 75 and 100."""

EVEN: Mapping[str, str] = {"standard": "medium", "hd": "high"}
"""DALL·E's words for a quality."""

EDIT_STRENGTH, VARIATION_STRENGTH = 0.75, 0.6
"""How far an edit and a variation go from their picture, where nothing else is said."""


def styled(prompt: str, style: str) -> str:
    """The prompt in a style; without one as it is."""
    return f"{prompt}, {STYLES[style]}" if style else prompt


def effort_of(quality: str) -> str:
    """The effort that a word for a quality asks for; empty: the model's own."""
    word = EVEN.get(quality, quality)
    return word if word in EFFORTS else ""
