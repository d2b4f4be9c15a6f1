"""What is known of a checkpoint before it is loaded."""

from __future__ import annotations

import msgspec


class Family(msgspec.Struct, frozen=True):
    """Checkpoints that share their modules' sizes. `name` is also the worker's folder of configurations."""

    name: str
    context: int  # width of the text embeddings that the UNet's cross-attention reads
    side: int  # px: width and height of the pictures it was trained on
    guidance_scale: float  # what suits it when the caller says nothing
    channels: int = 4  # 9: an inpainting checkpoint, which sees the mask and what it leaves

    @property
    def kin(self) -> str:
        """The family whose LoRAs, VAEs and so on fit it: an inpainting checkpoint takes what its plain kin takes."""
        return self.name.removesuffix("-inpaint")


SD1 = Family("sd1", context=768, side=512, guidance_scale=7.5)
SD2 = Family("sd2", context=1024, side=768, guidance_scale=7.5)
SDXL = Family("sdxl", context=2048, side=1024, guidance_scale=6.0)
SHAPES = Family("shapes", context=64, side=64, guidance_scale=4.0)
SD1_INPAINT = Family("sd1-inpaint", context=768, side=512, guidance_scale=7.5, channels=9)
SD2_INPAINT = Family("sd2-inpaint", context=1024, side=512, guidance_scale=7.5, channels=9)
SDXL_INPAINT = Family("sdxl-inpaint", context=2048, side=1024, guidance_scale=6.0, channels=9)
FAMILIES = (SD1, SD2, SDXL, SHAPES, SD1_INPAINT, SD2_INPAINT, SDXL_INPAINT)
BY_NAME = {family.name: family for family in FAMILIES}


class Checkpoint(msgspec.Struct, frozen=True):
    """A file or folder of weights. With a `problem`, a sentence for the person who put it there, it can't be used.

    What follows `size_bytes` is its model card's, where there is one; empty or 0 where it says nothing.
    """

    name: str  # the file's stem or the folder's name
    path: str
    family: str | None
    problem: str | None
    side: int  # px
    guidance_scale: float
    size_bytes: int
    width: int = 0  # px, where the card names a size that is not square
    height: int = 0
    sampler: str = ""
    steps: int = 0
    clip_skip: int = 0
    prediction: str = ""  # what the UNet predicts: "epsilon" or "v_prediction"; empty: as its family does
    vae: str = ""  # name of the VAE that paints in place of its own, or for lack of one
    vae_path: str = ""
    text_encoder: str = ""  # the checkpoint, or the file in text_encoders/, whose text encoder it is given
    text_encoder_path: str = ""
    lacks: tuple[str, ...] = ()  # of "vae" and "text_encoder", those that its file has not
    pinned: bool = False  # never put out of memory
    licence: str = ""
    trigger_words: tuple[str, ...] = ()
    description: str = ""

    @property
    def is_inpainting(self) -> bool:
        return bool(self.family) and str(self.family).endswith("-inpaint")
