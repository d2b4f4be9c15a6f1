"""A checkpoint's files → its modules, ready to paint. Nothing is asked of a network, nothing is unpickled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from app.errors import CheckpointUnavailable
from workers.diffusion.checkpoint.assembly import Assembly
from workers.diffusion.checkpoint.files_ahead import read_ahead
from workers.diffusion.checkpoint.parts import (
    Part,
    PartMissing,
    config_of,
    folder_part,
    text_part,
    unet_part,
    vae_part,
)
from workers.diffusion.checkpoint.reading import Tensors
from workers.diffusion.checkpoint.tokenizer import CONFIGS, LENGTH, tokenizer
from workers.diffusion.memory import is_out_of_memory
from workers.diffusion.request import Weights

TEXT_ENCODERS = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}


@dataclass(slots=True)
class Components:
    """The modules of one checkpoint on one device; SDXL has two text encoders, each with its tokenizer.

    `schedule` is the noise schedule that every sampler starts from. All modules have `dtype`, but for an autoencoder
    that overflows in half precision and is in full.
    """

    tokenizers: tuple[CLIPTokenizer, ...]
    text_encoders: tuple[CLIPTextModel | CLIPTextModelWithProjection, ...]
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    schedule: dict[str, Any]
    device: torch.device
    dtype: torch.dtype
    family: str

    @property
    def pixels_per_latent(self) -> int:
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def is_inpainting(self) -> bool:
        """The UNet sees the mask and the masked picture: 9 channels instead of the latents' 4."""
        return bool(self.unet.config.in_channels == 2 * self.vae.config.latent_channels + 1)


def load(
    weights: Weights,
    device: torch.device,
    dtype: torch.dtype,
    configs: Path = CONFIGS,
    assembly: Assembly | None = None,
) -> Components:
    """Loads a diffusers folder or a single `.safetensors` file of `weights.family` (a folder of `configs`).

    `assembly`, for this device, may have modules of another checkpoint.
    Raises CheckpointUnavailable when the files can't be read or hold other weights than the family's.
    """
    path = Path(weights.path)
    read_ahead(weights)  # while headers are read and modules are made
    with _explained(path), ExitStack() as files:
        sources = _Sources(weights, configs / weights.family, files)
        assembly = assembly or Assembly(device)
        unet, vae, texts = sources.unet(), sources.vae(), sources.text_encoders()
        vae_dtype = torch.float32 if _overflows(weights.family, vae, dtype) else dtype
        schedule = sources.schedule()
        parts = Components(
            tokenizers=tuple(sources.tokenizer(kind, part, configs) for kind, part in texts.items()),
            text_encoders=tuple(assembly.module(TEXT_ENCODERS[kind], part, dtype) for kind, part in texts.items()),
            unet=assembly.module(UNet2DConditionModel, unet, dtype),
            vae=assembly.module(AutoencoderKL, vae, vae_dtype),
            schedule=schedule,
            device=device,
            dtype=dtype,
            family=weights.family,
        )
        assembly.fill()
    return parts


class _Sources:
    """Finds each part of `weights`: in its folder or file, or in the files that are named in their place."""

    def __init__(self, weights: Weights, family: Path, files: ExitStack) -> None:
        self._weights = weights
        self._path = Path(weights.path)
        self._family = family
        self._files = files
        self._tensors = None if self._path.is_dir() else Tensors([self._path], files)

    def unet(self) -> Part:
        if self._tensors is None:
            return folder_part(self._path / "unet", self._files)
        return unet_part(self._tensors, config_of(self._family / "unet/config.json"))

    def vae(self) -> Part:
        named = Path(self._weights.vae_path) if self._weights.vae_path else None
        if named and named.is_dir():
            return folder_part(named / "vae" if (named / "vae").is_dir() else named, self._files)
        if named is None and self._tensors is None:
            return folder_part(self._path / "vae", self._files)
        return vae_part(self._tensors_of(named), config_of(self._family / "vae/config.json"))

    def text_encoders(self) -> dict[str, Part]:
        """The text encoders by the names that their folders have."""
        kinds = [kind for kind in TEXT_ENCODERS if (self._family / kind).is_dir()]
        named = Path(self._weights.text_encoder_path) if self._weights.text_encoder_path else None
        place = named or self._path
        if place.is_dir():
            parts = self._text_folders(place)
        else:
            tensors = self._tensors_of(named)
            parts = {kind: text_part(tensors, kind, config_of(self._family / kind / "config.json")) for kind in kinds}
        if len(parts) != len(kinds):
            raise PartMissing(f"reads prompts with {len(kinds)} text encoders, and {place.name} has {len(parts)}")
        return parts

    def _tensors_of(self, named: Path | None) -> Tensors:
        """Those of the file that is named for a part, else the checkpoint's own."""
        if named is not None:
            return Tensors([named], self._files, named.name)
        assert self._tensors is not None
        return self._tensors

    def _text_folders(self, folder: Path) -> dict[str, Part]:
        """Those of a whole diffusers folder, or the one that the folder itself is."""
        if (folder / "text_encoder").is_dir():
            kinds = [kind for kind in TEXT_ENCODERS if (folder / kind).is_dir()]
            return {kind: folder_part(folder / kind, self._files) for kind in kinds}
        return {"text_encoder": folder_part(folder, self._files)}

    def tokenizer(self, kind: str, part: Part, configs: Path) -> CLIPTokenizer:
        """The family's tokenizer; a folder's own where its text encoder was given words besides."""
        name, rows = kind.replace("text_encoder", "tokenizer"), part.config["vocab_size"]
        words = tokenizer(self._weights.family, name, configs)
        own = self._path / name
        if len(words) != rows and own.is_dir():
            words = CLIPTokenizer.from_pretrained(own, local_files_only=True, model_max_length=LENGTH)
        if len(words) != rows:
            raise PartMissing(
                f"has a text encoder of {rows} tokens, {self._weights.family} has {len(words)}: it can't read prompts"
            )
        return words

    def schedule(self) -> dict[str, Any]:
        """The family's noise schedule. Of a folder's own, only what its model predicts and whether it ends in pure
        noise counts, and not how it spaces the timesteps: a folder and the single file made from it paint the same
        picture. Some files of SDXL say the same by tensors that are called so.
        """
        schedule, ends_in_noise = dict(config_of(self._family / "scheduler/scheduler_config.json")), False
        own = self._path / "scheduler/scheduler_config.json"
        if own.is_file():
            config = config_of(own)
            schedule["prediction_type"] = config.get("prediction_type", "epsilon")
            ends_in_noise = config.get("rescale_betas_zero_snr", False)
        elif self._tensors is not None and "v_pred" in self._tensors:
            schedule["prediction_type"] = "v_prediction"
            ends_in_noise = "ztsnr" in self._tensors
        if ends_in_noise:
            schedule["rescale_betas_zero_snr"] = True
        if self._weights.prediction:
            schedule["prediction_type"] = self._weights.prediction
        return schedule


def _overflows(family: str, vae: Part, dtype: torch.dtype) -> bool:
    """SDXL's autoencoder gives no numbers in half precision, unless it was mended and says so."""
    return dtype == torch.float16 and family.startswith("sdxl") and bool(vae.config.get("force_upcast", True))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what the libraries raise for bad files into one sentence; being out of memory is no fault of the file."""
    try:
        yield
    except PartMissing as error:
        raise CheckpointUnavailable(f"The checkpoint {path.name} {error}.", params="model_name") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        reason = (str(error.args[0] if error.args else error).splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointUnavailable(
            f"The checkpoint {path.name} could not be loaded ({reason}). Download it again, or name another.",
            params="model_name",
        ) from error
