"""The values that cross the engine's door. No torch here, so that any process may build them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Weights:
    """A checkpoint as it is to be loaded: two that are equal share their place in memory."""

    name: str
    path: str  # a .safetensors file or a diffusers folder
    family: str  # a folder of `configs/`
    prediction: str = ""  # "epsilon" or "v_prediction"; empty: what the files say, else the family's
    vae_path: str = ""  # an autoencoder in place of its own, or for lack of one
    text_encoder_path: str = ""  # for a file without one
    hash: str = field(
        default="", compare=False
    )  # 10 hex digits for the picture's metadata, where the caller knows them


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """`n` pictures of one prompt; picture i is the one that the same request alone would give for `seed + i`."""

    checkpoint_name: str
    checkpoint_path: str
    family: str  # a folder of `configs/`
    prompt: str
    negative_prompt: str = ""
    width: int = 512  # pixels, a multiple of 8
    height: int = 512
    steps: int = 30
    guidance_scale: float = 7.5  # 1 or less: no guidance, and half the work
    seed: int = 0
    n: int = 1
    sampler: str = "euler_a"  # a short name or a display name of `schedulers`
    shown_size: tuple[int, int] | None = None  # enlarged to this; None: as it was painted
    checkpoint_hash: str = ""  # 10 hex digits for the picture's metadata, where the caller knows them


@dataclass(frozen=True, slots=True)
class Progress:
    """`step` of `steps` UNet calls are done. Some samplers need more calls than the request's `steps`."""

    step: int
    steps: int
    eta_s: float


@dataclass(frozen=True, slots=True)
class Image:
    png: bytes
    seed: int
    width: int
    height: int


class StopRequested(Exception):
    """The caller's `should_stop` said yes between two UNet calls."""
