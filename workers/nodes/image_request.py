"""A step's settled inputs to what the engine is asked for: names become paths, files become bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.artifacts.store import ArtifactStore
from app.checkpoints.adapters import Kind
from app.checkpoints.catalogue import Catalogue
from app.checkpoints.checkpoint import Checkpoint
from app.checkpoints.hashes import stamp_of
from app.errors import NodeFailed
from app.graph.tools.weighted import split_prompt
from app.runs.sizes import LARGEST, Size, size_of_change
from workers.diffusion.pictures.opening import seen_size
from workers.diffusion.request import (
    Control,
    Enlargement,
    EnlargeRequest,
    Hires,
    ImageRequest,
    Lora,
    UsedFile,
    Weights,
)
from workers.nodes.hashing import Hashing

_TINY = "taesd"
_BUILT_IN = frozenset({"latent", "lanczos"})
_SAME_NAMES = (
    "variation_strength",
    "variation_seed",
    "clip_skip",
    "strength",
    "reference_weight",
    "format",
    "quality",
    "previews",
    "keep_alive_s",
)


class ImageRequests:
    """Builds requests. Nothing is left to choose: equal inputs and files make equal requests."""

    def __init__(self, catalogue: Catalogue, artifacts: ArtifactStore) -> None:
        self._catalogue = catalogue
        self._artifacts = artifacts
        self.hashing = Hashing(catalogue.hashes)

    def painting(self, inputs: Mapping[str, Any]) -> ImageRequest:
        """Raises CheckpointUnavailable, NodeFailed, and what the artifact store raises for a file that it lacks."""
        checkpoint = self._catalogue.get(inputs["model_name"])
        image = self._bytes(inputs.get("image"))
        size = _size(image, inputs, checkpoint)
        painted = tuple(inputs.get("painted_size") or size)
        given = {name: inputs[name] for name in _SAME_NAMES if name in inputs}
        vae_path = self._path("vae", inputs["vae"]) if "vae" in inputs else ""
        return ImageRequest(
            weights=weights_of(checkpoint, self._catalogue, vae_path),
            prompt=split_prompt(inputs["prompt"])[0],
            negative_prompt=inputs.get("negative_prompt") or "",
            width=painted[0],
            height=painted[1],
            steps=inputs["steps"],
            guidance_scale=inputs["guidance_scale"],
            seed=inputs["seed"],
            n=inputs["n"],
            sampler=inputs["scheduler"],
            image=image,
            mask=self._bytes(inputs.get("mask")),
            references=tuple(self._artifacts.get(file["sha256"]) for file in inputs.get("reference", ())),
            loras=tuple(self._loras(inputs)),
            embeddings=tuple((name, self._path("embedding", name)) for name in inputs.get("embeddings", ())),
            controls=tuple(self._controls(inputs)),
            hires=self._hires(inputs),
            enlarge=self._enlargement(inputs) if inputs.get("upscale", 1) != 1 else None,
            shown_size=None if painted == size else _shown(size, inputs),
            preview_path=self._preview_path(checkpoint) if inputs.get("previews") else "",
            exclusive=bool(inputs.get("exclusive")),
            files=tuple(self._files(checkpoint, inputs)),
            **given,
        )

    def loading(self, inputs: Mapping[str, Any]) -> ImageRequest:
        """Of no picture: its checkpoint is loaded, and stays for as long as the inputs say. Raises
        CheckpointUnavailable.
        """
        checkpoint = self._catalogue.get(inputs["model_name"])
        return ImageRequest(
            weights_of(checkpoint, self._catalogue), n=0, steps=1, keep_alive_s=inputs.get("keep_alive_s")
        )

    def enlarging(self, inputs: Mapping[str, Any]) -> EnlargeRequest:
        """Raises as `painting` does."""
        image = self._artifacts.get(inputs["image"]["sha256"])
        _enlarged(seen_size(image), inputs)
        given = {name: inputs[name] for name in ("format", "quality") if name in inputs}
        files = tuple(map(self._hashed, self._upscalers(inputs)))
        return EnlargeRequest(image, self._enlargement(inputs), files=files, **given)

    def _loras(self, inputs: Mapping[str, Any]) -> Iterator[Lora]:
        for use in inputs.get("loras", ()):
            yield Lora(use["name"], self._path("lora", use["name"]), use["weight"], use.get("text_weight"))

    def _controls(self, inputs: Mapping[str, Any]) -> Iterator[Control]:
        for net, file in zip(inputs.get("control_net", ()), inputs.get("control_image", ()), strict=True):
            between = inputs["control_start"], inputs["control_end"]
            picture, path = self._artifacts.get(file["sha256"]), self._path("controlnet", net["name"])
            yield Control(net["name"], path, picture, net["weight"], *between)

    def _files(self, checkpoint: Checkpoint, inputs: Mapping[str, Any]) -> Iterator[UsedFile]:
        """The weights that have a part in the picture besides the checkpoint, for whoever wants to make it again."""
        if "vae" in inputs:
            yield self._used("vae", "vae", inputs["vae"])
        elif checkpoint.vae_path:
            yield self._equipped("vae", checkpoint.vae_path, checkpoint.vae)
        if checkpoint.text_encoder_path:
            yield self._equipped("text_encoder", checkpoint.text_encoder_path, checkpoint.text_encoder)
        for use in inputs.get("loras", ()):
            yield self._used("lora", "lora", use["name"])
        for word in inputs.get("embeddings", ()):
            yield self._used("embedding", "embedding", word)
        for net in inputs.get("control_net", ()):
            yield self._used("controlnet", "controlnet", net["name"])
        yield from self._upscalers(inputs)

    def _upscalers(self, inputs: Mapping[str, Any]) -> Iterator[UsedFile]:
        for role, passes in (("hires_upscaler", "hires_scale"), ("upscaler", "upscale")):
            name = inputs.get(role, "lanczos")
            if inputs.get(passes, 1) != 1 and name not in _BUILT_IN:
                yield self._used(role, "upscaler", name)

    def _used(self, role: str, kind: Kind, name: str) -> UsedFile:
        return self._equipped(role, self._path(kind, name), name)

    def _equipped(self, role: str, path: str, name: str) -> UsedFile:
        """A hash that nobody has computed yet is left open, as the checkpoint's."""
        hash = (self._catalogue.hashes.find(Path(path)) or "")[:10]
        return UsedFile(role, name or Path(path).stem, path, hash)

    def _hashed(self, file: UsedFile) -> UsedFile:
        """An upscaler is small enough to be read on the spot."""
        with suppress(OSError):
            return replace(file, hash=self._catalogue.hashes.compute(Path(file.path))[:10])
        return file

    def _preview_path(self, checkpoint: Checkpoint) -> str:
        """Of the tiny autoencoder for the checkpoint's latents, which are Stable Diffusion 1's in 2 as well."""
        kin = (checkpoint.family or "").partition("-")[0]
        family = "sd1" if kin == "sd2" else kin
        tiny = (each for each in self._catalogue.adapters.list("vae") if each.name.lower().startswith(_TINY))
        return next((each.path for each in tiny if not each.problem and each.family == family), "")

    def _hires(self, inputs: Mapping[str, Any]) -> Hires | None:
        if "hires_scale" not in inputs:
            return None
        upscaler = self._upscaler(inputs["hires_upscaler"])
        return Hires(inputs["hires_scale"], inputs["hires_strength"], inputs["hires_steps"], upscaler)

    def _enlargement(self, inputs: Mapping[str, Any]) -> Enlargement:
        return Enlargement(inputs["upscale"], self._upscaler(inputs["upscaler"]))

    def _upscaler(self, name: str) -> str:
        return name if name in _BUILT_IN else self._path("upscaler", name)

    def _path(self, kind: Kind, name: str) -> str:
        return self._catalogue.adapters.find(kind, name).path

    def _bytes(self, file: Mapping[str, Any] | None) -> bytes | None:
        return None if file is None else self._artifacts.get(file["sha256"])


def weights_of(checkpoint: Checkpoint, catalogue: Catalogue, vae_path: str = "") -> Weights:
    """The checkpoint as the engine is asked for it, with another autoencoder if there is a path to one.

    A hash that nobody has computed yet is left open: see `Hashing`.
    """
    vae_path, text_encoder_path = vae_path or checkpoint.vae_path, checkpoint.text_encoder_path
    return Weights(
        name=checkpoint.name,
        path=checkpoint.path,
        family=checkpoint.family or "",
        prediction=checkpoint.prediction,
        vae_path=vae_path,
        text_encoder_path=text_encoder_path,
        stamp=stamp_of(*filter(None, (checkpoint.path, vae_path, text_encoder_path))),
        hash=(catalogue.hashes.find(Path(checkpoint.path)) or "")[:10],
    )


def _size(image: bytes | None, inputs: Mapping[str, Any], checkpoint: Checkpoint) -> Size:
    """What is to be painted, in pixels; checked where the picture itself says it."""
    width, height = inputs.get("width"), inputs.get("height")
    if image is None:
        return inputs["width"], inputs["height"]
    size = size_of_change(seen_size(image), width, height, checkpoint.side)
    _enlarged(size, inputs)
    return size


def _shown(size: Size, inputs: Mapping[str, Any]) -> Size:
    """What was asked for, before it is enlarged: the second pass belongs to the painting."""
    scale = inputs.get("hires_scale", 1)
    return round(size[0] * scale), round(size[1] * scale)


def _enlarged(size: Size, inputs: Mapping[str, Any]) -> Size:
    """How large the finished picture is. Raises NodeFailed for one that is too large."""
    factor = inputs.get("hires_scale", 1) * inputs.get("upscale", 1)
    width, height = round(size[0] * factor), round(size[1] * factor)
    if max(width, height) > LARGEST:
        said = f"The picture would have {width} x {height} pixels; a side may have {LARGEST}. Enlarge it less."
        raise NodeFailed(said, error_type="InvalidParam")
    return width, height
