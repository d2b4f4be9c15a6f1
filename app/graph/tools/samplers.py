"""Sampler and scheduler names of other image servers → ours: AUTOMATIC1111's, ComfyUI's, stable-diffusion.cpp's."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

_TITLES: Mapping[str, str] = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "dpm2": "DPM2",
    "dpm2_a": "DPM2 a",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpmpp_2s": "DPM++ 2S",
    "dpmpp_sde": "DPM++ SDE",
    "lms": "LMS",
    "unipc": "UniPC",
    "deis": "DEIS",
    "sa": "SA-Solver",
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "pndm": "PLMS",
    "lcm": "LCM",
    "tcd": "TCD",
}
"""What AUTOMATIC1111 calls each of them."""
_FREE = frozenset(_TITLES) - {"euler_a", "ddim", "ddpm", "pndm", "lcm", "tcd"}  # their steps may lie anywhere
_SPACED: Mapping[tuple[str, str], frozenset[str]] = {
    ("karras", "Karras"): _FREE,
    ("exponential", "Exponential"): _FREE,
    ("sgm_uniform", "SGM Uniform"): frozenset({"euler", "euler_a", "dpmpp_2m", "ddim"}),
}
_SPACED_TITLES: Mapping[str, str] = {
    f"{name}_{spacing}": f"{title} {spacing_title}"
    for (spacing, spacing_title), having in _SPACED.items()
    for name, title in _TITLES.items()
    if name in having
}

SCHEDULERS = (*_TITLES, *_SPACED_TITLES)
"""Every name that the engine knows."""

SCHEDULER_ALIASES: Mapping[str, str] = {
    title.lower(): name for name, title in {**_TITLES, **_SPACED_TITLES}.items() if title.lower() != name
}
"""The names that AUTOMATIC1111 shows, in small letters, where they are not the short name itself."""

_SAME: Mapping[str, str] = {
    "euler": "euler",
    "eulera": "euler_a",
    "eulerancestral": "euler_a",
    "heun": "heun",
    "dpm2": "dpm2",
    "dpm2a": "dpm2_a",
    "dpm2ancestral": "dpm2_a",
    "ddim": "ddim",
    "ddpm": "ddpm",
    "dpmpp2m": "dpmpp_2m",
    "dpmpp2msde": "dpmpp_2m_sde",
    "dpmpp2msdegpu": "dpmpp_2m_sde",
    "dpmpp3msde": "dpmpp_3m_sde",
    "dpmpp3msdegpu": "dpmpp_3m_sde",
    "dpmpp2s": "dpmpp_2s",
    "dpmppsde": "dpmpp_sde",
    "dpmppsdegpu": "dpmpp_sde",
    "lms": "lms",
    "plms": "pndm",
    "pndm": "pndm",
    "unipc": "unipc",
    "unipcbh2": "unipc",
    "deis": "deis",
    "sa": "sa",
    "sasolver": "sa",
    "lcm": "lcm",
    "tcd": "tcd",
}
_NEAREST: Mapping[str, str] = {
    "eulercfgpp": "euler",
    "eulerancestralcfgpp": "euler_a",
    "heunpp2": "heun",
    "restart": "heun",
    "dpmfast": "dpmpp_2m",
    "dpmadaptive": "dpmpp_2m",
    "dpmpp2sa": "dpmpp_sde",
    "dpmpp2sancestral": "dpmpp_sde",
    "dpmpp2msdeheun": "dpmpp_2m_sde",
    "dpmpp2msdeheungpu": "dpmpp_2m_sde",
    "dpmpp2mv2": "dpmpp_2m",
    "dpmpp2mcfgpp": "dpmpp_2m",
    "resmultistep": "dpmpp_2m",
    "ipndm": "pndm",
    "ipndmv": "pndm",
    "sasolverpece": "sa",
    "ddimcfgpp": "ddim",
    "icm": "lcm",  # what one provider's list says for lcm
}
_SPACINGS: Mapping[str, str] = {
    "karras": "karras",
    "polyexponential": "exponential",  # with its usual power of 1 it is the same
    "exponential": "exponential",
    "sgmuniform": "sgm_uniform",
}
"""What AUTOMATIC1111 writes behind a sampler's name; none that ends another comes before it."""
_PLAIN_SPACINGS = frozenset({"", "normal", "simple", "automatic", "discrete", "uniform"})


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
    spaced = f"{found}_{_SPACINGS.get(asked, '')}"
    if spaced in _SPACED_TITLES:
        found = spaced
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
