"""What is known of a checkpoint before it is loaded."""

from __future__ import annotations

import msgspec


class Family(msgspec.Struct, frozen=True):
    """Checkpoints that share their modules' sizes. `name` is also the worker's folder of configurations."""

    name: str
    context: int  # width of the text embeddings that the UNet's cross-attention reads
    side: int  # px: width and height of the pictures it was trained on
    guidance_scale: float  # what suits it when the caller says nothing


SD1 = Family("sd1", context=768, side=512, guidance_scale=7.5)
SHAPES = Family("shapes", context=64, side=64, guidance_scale=4.0)
FAMILIES = (SD1, SHAPES)


class Checkpoint(msgspec.Struct, frozen=True):
    """A file or folder of weights. With a `problem`, a sentence for the person who put it there, it can't be used."""

    name: str  # the file's stem or the folder's name
    path: str
    family: str | None
    problem: str | None
    side: int  # px
    guidance_scale: float
    size_bytes: int
    sampler: str = ""
    steps: int = 0
    clip_skip: int = 0
    vae: str = ""
    prediction: str = ""
