"""The values that cross the engine's door. No torch here, so that any process may build them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

Format = Literal["png", "jpeg", "webp"]


@dataclass(frozen=True, slots=True)
class Weights:
    """A checkpoint as it is to be loaded: two that are equal share their place in memory."""

    name: str
    path: str  # a .safetensors file or a diffusers folder
    family: str  # a folder of `configs/`
    prediction: str = ""  # "epsilon" or "v_prediction"; empty: what the files say, else the family's
    vae_path: str = ""  # an autoencoder in place of its own, or for lack of one
    text_encoder_path: str = ""  # for a file without one
    in_full: bool = False  # in single precision, wherever it is
    stamp: str = ""  # what the caller knows the files' content by: another content is another checkpoint
    hash: str = field(default="", compare=False)  # 10 hex digits that the picture's settings say, where they are known


@dataclass(frozen=True, slots=True)
class Lora:
    """A low-rank change of the weights. A weight of 0 changes nothing, exactly; it may be negative."""

    name: str
    path: str
    weight: float = 1.0
    text_weight: float | None = None  # for the text encoder; None: as `weight`


@dataclass(frozen=True, slots=True)
class Control:
    """A ControlNet with the picture that it follows, between two fractions of the way."""

    name: str
    path: str
    image: bytes  # a picture file; brought to the size that is painted
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True, slots=True)
class Hires:
    """A second pass at `scale` times the size, from the first one's picture: fine detail without a second composition.

    `upscaler` is "latent", "lanczos", or the path of an ESRGAN file.
    """

    scale: float = 2.0
    strength: float = 0.5
    steps: int = 0  # 0: as many as the first pass
    upscaler: str = "latent"


@dataclass(frozen=True, slots=True)
class Enlargement:
    """Of the finished picture, by `upscaler`: "lanczos", or the path of an ESRGAN file."""

    scale: float
    upscaler: str = "lanczos"


@dataclass(frozen=True, slots=True)
class UsedFile:
    """What the picture's file is to say of weights that it was made with, but for their `path`.

    `hash`: 10 hex digits, where the caller knows them.
    """

    role: str
    name: str
    path: str
    hash: str = ""


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """`n` pictures of one prompt; picture i is the one that `alone(i)` gives. Of none, the checkpoint is loaded.

    With an `image` they begin from it, as far away as `strength` says (0: the image itself, 1: hardly more than its
    size is left).
    With a `mask`, too, only what is transparent in the mask is painted; all other pixels are the image's own.
    With `references` they begin from the image mixed with the mean of these, of which `reference_weight` is the share.
    """

    weights: Weights
    prompt: str = ""
    negative_prompt: str = ""
    width: int = 512  # pixels, a multiple of 8
    height: int = 512
    steps: int = 30
    guidance_scale: float = 7.5  # 1 or less: no guidance, and half the work
    seed: int = 0
    n: int = 1
    sampler: str = "euler_a"  # a short name or a display name of `schedulers`
    clip_skip: int = 1  # as AUTOMATIC1111 counts: 1 is the text encoder's last layer, 2 the one before it
    variation_seed: int = 0
    variation_strength: float = 0.0  # how far the first noise turns from `seed`'s towards `variation_seed`'s
    image: bytes | None = None
    mask: bytes | None = None
    strength: float = 0.75
    references: tuple[bytes, ...] = ()
    reference_weight: float = 0.35
    loras: tuple[Lora, ...] = ()
    embeddings: tuple[tuple[str, str], ...] = ()  # (word, path) of the textual inversions that a prompt may name
    controls: tuple[Control, ...] = ()
    hires: Hires | None = None
    enlarge: Enlargement | None = None
    shown_size: tuple[int, int] | None = None  # enlarged to this; None: as it was painted
    format: Format = "png"
    quality: int = 90  # of JPEG and WebP
    previews: bool = False
    preview_path: str = ""  # a tiny autoencoder that makes them; empty: they are a guess from the latents
    exclusive: bool = False  # alone in each UNet call, so that it repeats bit for bit
    files: tuple[UsedFile, ...] = ()
    keep_alive_s: float | None = None  # how long the checkpoint stays afterwards; None: see `Limits`; negative: no end

    def alone(self, i: int) -> ImageRequest:
        """The request for its picture `i` and no other: of `seed + i`, or, of variations, of `variation_seed + i`."""
        varied = self.variation_strength > 0
        return replace(
            self,
            n=1,
            seed=self.seed + (0 if varied else i),
            variation_seed=self.variation_seed + (i if varied else 0),
        )


@dataclass(frozen=True, slots=True)
class EnlargeRequest:
    """A picture to be enlarged, without a checkpoint."""

    image: bytes
    enlarge: Enlargement
    format: Format = "png"
    quality: int = 90
    files: tuple[UsedFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """`step` of `steps` UNet calls are done. Some samplers need more calls than the request's `steps`."""

    step: int
    steps: int
    eta_s: float
    preview: bytes | None = None  # a small JPEG of the first picture as it is so far


@dataclass(frozen=True, slots=True)
class Image:
    """A finished picture as a file of the request's format."""

    content: bytes
    seed: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Painted:
    """What became of a request: its pictures in the order of their seeds, and how long loading its checkpoint took."""

    images: tuple[Image, ...]
    load_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much memory checkpoints may take, and for how long.

    Of those that are not `pinned` each is unloaded `keep_alive_s` after its last use: 0 at once, None never. A request
    may say otherwise for its own.
    """

    budget_bytes: int = 0  # 0: a share of what the device has
    keep_alive_s: float | None = None
    pinned: frozenset[str] = frozenset()  # by name: these stay


Precision = Literal["auto", "float32", "float16", "bfloat16"]
Quickening = Literal["graphs", "fused", "beside", "pinned"]


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the engine calculates.

    `precision` "auto": half (float16) on a GPU, single on a CPU. `without`: what a GPU is not to be made faster by:
    recorded UNet calls, fused projections, decoding beside the calls, pinned memory.
    """

    precision: Precision = "auto"
    without: frozenset[Quickening] = frozenset()


@dataclass(frozen=True, slots=True)
class Resident:
    """A checkpoint in memory. Times are of `time.monotonic`."""

    name: str
    size: int  # bytes, those on a GPU included; what checkpoints share counts for each
    vram_size: int
    since_s: float
    ends_s: float | None  # when it is unloaded, unless it is used before; None: it stays
    is_leaving: bool = False  # as soon as nobody is painted with it


class StopRequested(Exception):
    """The caller's `should_stop` said yes between two UNet calls."""
