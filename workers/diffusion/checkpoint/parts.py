"""Where each module of a checkpoint has its configuration and its weights: in a folder, or in one file for all.

    Part         a module's configuration, and where each of its weights lies
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

from workers.diffusion.checkpoint import names
from workers.diffusion.checkpoint.open_clip import MARK, place
from workers.diffusion.checkpoint.reading import Source, Tensors
from workers.diffusion.checkpoint.weight_files import weight_files

Find = Callable[[str], Source]
CLIP_MARK = "final_layer_norm.weight"


class PartMissing(Exception):
    """A file without one of the modules. Its text completes a sentence that begins with the file's name."""


@dataclass(frozen=True, slots=True)
class Part:
    config: names.Config
    find: Find  # the name of a weight in our module → where it lies, in a shape that may have ones at its end


def config_of(path: Path) -> names.Config:
    config: names.Config = json.loads(path.read_text())
    return config


def folder_part(folder: Path, files: ExitStack) -> Part:
    """A component's folder as diffusers saves it, today or long ago."""
    tensors = Tensors(weight_files(folder), files, f"{folder.name}/")

    def find(name: str) -> Source:
        return tensors.find(name, *names.text_encoder_names(name), names.old_vae_name(name))

    return Part(config_of(folder / "config.json"), find)


def unet_part(tensors: Tensors, config: names.Config) -> Part:
    rename = names.unet_names(config)
    return Part(config, lambda name: tensors.find(rename(name)))


def vae_part(tensors: Tensors, config: names.Config) -> Part:
    """An autoencoder within a checkpoint, or in a file of its own, under original names or under diffusers'.

    Raises PartMissing.
    """
    rename = names.vae_names(config)
    if names.VAE + "decoder.conv_in.weight" in tensors:
        return Part(config, lambda name: tensors.find(rename(name)))
    if any(name.startswith("decoder.up_blocks.") for name in tensors):
        return Part(config, lambda name: tensors.find(name, names.old_vae_name(name)))
    if "decoder.conv_in.weight" in tensors:
        return Part(config, lambda name: tensors.find(rename(name).removeprefix(names.VAE)))
    raise PartMissing(_missing(tensors, "VAE"))


def text_part(tensors: Tensors, kind: str, config: names.Config) -> Part:
    """A text encoder (`kind` is "text_encoder" or "text_encoder_2") within a checkpoint, or in a file of its own.

    Raises PartMissing.
    """
    homes = (*names.TEXT_ENCODERS[kind], "")
    for prefix in (f"{home}{inner}" for home in homes for inner in ("transformer.", "model.", "")):
        if prefix + MARK in tensors:
            return Part(config, _open_clip_finder(tensors, prefix))
        if any(prefix + name in tensors for name in names.text_encoder_names(CLIP_MARK)):
            return Part(config, _clip_finder(tensors, prefix))
    raise PartMissing(_missing(tensors, "text encoder"))


def _missing(tensors: Tensors, part: str) -> str:
    if tensors.where == "it":
        return f"has no {part} in it, and its model card names none"
    return f"can't have the {part} of {tensors.where}: there is none in it"


def _clip_finder(tensors: Tensors, prefix: str) -> Find:
    return lambda name: tensors.find(*(prefix + each for each in names.text_encoder_names(name)))


def _open_clip_finder(tensors: Tensors, prefix: str) -> Find:
    def find(name: str) -> Source:
        at = place(name)
        return tensors.find(prefix + at.name, third=at.third)._replace(transposed=at.transposed)

    return find
