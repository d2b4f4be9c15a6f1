"""Sampler and scheduler names of other image servers → ours: AUTOMATIC1111's, ComfyUI's, stable-diffusion.cpp's."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

_SAME: Mapping[str, str] = {
    "euler": "euler",
    "eulera": "euler_a",
    "eulerancestral": "euler_a",
    "heun": "heun",
    "ddim": "ddim",
    "ddpm": "ddpm",
    "dpmpp2m": "dpmpp_2m",
    "dpmppsde": "dpmpp_sde",
    "dpmppsdegpu": "dpmpp_sde",
    "lms": "lms",
    "plms": "pndm",
    "pndm": "pndm",
    "unipc": "unipc",
    "lcm": "lcm",
}
_NEAREST: Mapping[str, str] = {
    "eulercfgpp": "euler",
    "eulerancestralcfgpp": "euler_a",
    "heunpp2": "heun",
    "restart": "heun",
    "dpm2": "heun",
    "dpm2a": "euler_a",
    "dpm2ancestral": "euler_a",
    "dpmfast": "dpmpp_2m",
    "dpmadaptive": "dpmpp_2m",
    "dpmpp2sa": "dpmpp_sde",
    "dpmpp2sancestral": "dpmpp_sde",
    "dpmpp2msde": "dpmpp_sde",
    "dpmpp2msdeheun": "dpmpp_sde",
    "dpmpp2msdegpu": "dpmpp_sde",
    "dpmpp2msdeheungpu": "dpmpp_sde",
    "dpmpp3msde": "dpmpp_sde",
    "dpmpp3msdegpu": "dpmpp_sde",
    "dpmpp2mv2": "dpmpp_2m",
    "dpmpp2mcfgpp": "dpmpp_2m",
    "resmultistep": "dpmpp_2m",
    "ipndm": "pndm",
    "ipndmv": "pndm",
    "deis": "unipc",
    "unipcbh2": "unipc",
    "ddimcfgpp": "ddim",
    "icm": "lcm",  # what one provider's list says for lcm
}
_SPACINGS = ("karras", "exponential", "polyexponential", "sgmuniform")
"""What AUTOMATIC1111 writes behind a sampler's name."""
_PLAIN_SPACINGS = frozenset({"", "normal", "simple", "automatic", "discrete", "uniform"})
_KARRAS: Mapping[str, str] = {"dpmpp_2m": "dpmpp_2m_karras"}


class SamplerChoice(msgspec.Struct, frozen=True):
    """One of our schedulers for what was asked; `note` says how far it is from that, or is empty."""

    scheduler: str
    note: str = ""


def choose_sampler(name: str, spacing: str = "") -> SamplerChoice | None:
    """Our scheduler for a sampler's name and, where it is written apart, how its steps are spaced.

    None for a name that nobody knows. Spelling does not count: "DPM++ 2M Karras" is ("dpmpp_2m", "karras").
    """
    plain, written_spacing = _split(_squeezed(name))
    found = _SAME.get(plain) or _NEAREST.get(plain)
    if found is None:
        return None
    notes = [] if plain in _SAME else [f"sampler '{name}' is not here: {found} paints in its place"]
    asked = written_spacing or _squeezed(spacing)
    if asked == "karras" and found in _KARRAS:
        found = _KARRAS[found]
    elif asked not in _PLAIN_SPACINGS:
        notes.append(f"{found} has no spacing '{asked}' here: its own is taken")
    return SamplerChoice(found, "; ".join(notes))


def known_samplers() -> str:
    """For the text of a refusal."""
    return ", ".join(sorted({*_SAME, *_NEAREST}))


def _squeezed(name: str) -> str:
    return "".join(letter for letter in name.lower().replace("+", "p") if letter.isalnum())


def _split(squeezed: str) -> tuple[str, str]:
    for spacing in _SPACINGS:
        if squeezed.endswith(spacing) and squeezed != spacing:
            return squeezed.removesuffix(spacing), spacing
    return squeezed, ""
