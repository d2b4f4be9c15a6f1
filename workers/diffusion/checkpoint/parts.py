"""Where each module of a checkpoint has its configuration and its weights: in a folder, or in one file for all.

    Part         a module's configuration, and how each of its weights is read
    unet_part, vae_part, text_part

A part is asked for by what it is; whether the files call its weights as diffusers does, as Stable Diffusion was
published, or as people called them before 2023, is found out from the names that are there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from workers.diffusion.checkpoint import names
from workers.diffusion.checkpoint.open_clip import MARK, place
from workers.diffusion.checkpoint.reading import Tensors
from workers.diffusion.checkpoint.weight_files import weight_files

Read = Callable[[str], torch.Tensor]
CLIP_MARK = "final_layer_norm.weight"


class PartMissing(Exception):
    """A file without one of the modules. Its text completes a sentence that begins with the file's name."""


@dataclass(frozen=True, slots=True)
class Part:
    config: names.Config
    read: Read  # the name of a weight in our module → the weight, of a shape that may have ones at its end


def config_of(path: Path) -> names.Config:
    config: names.Config = json.loads(path.read_text())
    return config


def folder_part(folder: Path, files: ExitStack) -> Part:
    """A component's folder as diffusers saves it, today or long ago."""
    tensors = Tensors(weight_files(folder), files, f"{folder.name}/")

    def read(name: str) -> torch.Tensor:
        return tensors.first(name, *names.text_encoder_names(name), names.old_vae_name(name))

    return Part(config_of(folder / "config.json"), read)


def unet_part(tensors: Tensors, config: names.Config) -> Part:
    rename = names.unet_names(config)
    return Part(config, lambda name: tensors.first(rename(name)))


def vae_part(tensors: Tensors, config: names.Config) -> Part:
    """An autoencoder within a checkpoint, or in a file of its own, under original names or under diffusers'.

    Raises PartMissing.
    """
    rename = names.vae_names(config)
    if names.VAE + "decoder.conv_in.weight" in tensors:
        return Part(config, lambda name: tensors.first(rename(name)))
    if any(name.startswith("decoder.up_blocks.") for name in tensors):
        return Part(config, lambda name: tensors.first(name, names.old_vae_name(name)))
    if "decoder.conv_in.weight" in tensors:
        return Part(config, lambda name: tensors.first(rename(name).removeprefix(names.VAE)))
    raise PartMissing(_missing(tensors, "VAE"))


def text_part(tensors: Tensors, kind: str, config: names.Config) -> Part:
    """A text encoder (`kind` is "text_encoder" or "text_encoder_2") within a checkpoint, or in a file of its own.

    Raises PartMissing.
    """
    homes = (*names.TEXT_ENCODERS[kind], "")
    for prefix in (f"{home}{inner}" for home in homes for inner in ("transformer.", "model.", "")):
        if prefix + MARK in tensors:
            return Part(config, _open_clip_reader(tensors, prefix))
        if any(prefix + name in tensors for name in names.text_encoder_names(CLIP_MARK)):
            return Part(config, _clip_reader(tensors, prefix))
    raise PartMissing(_missing(tensors, "text encoder"))


def _missing(tensors: Tensors, part: str) -> str:
    if tensors.where == "it":
        return f"has no {part} in it, and its model card names none"
    return f"can't have the {part} of {tensors.where}: there is none in it"


def _clip_reader(tensors: Tensors, prefix: str) -> Read:
    return lambda name: tensors.first(*(prefix + each for each in names.text_encoder_names(name)))


def _open_clip_reader(tensors: Tensors, prefix: str) -> Read:
    def read(name: str) -> torch.Tensor:
        at = place(name)
        tensor = tensors.first(prefix + at.name, third=at.third)
        return tensor.T if at.transposed else tensor

    return read
