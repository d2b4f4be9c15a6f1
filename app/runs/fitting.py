"""What a picture asks for by name beside its checkpoint: found, and fit for that checkpoint, before there is a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from app.checkpoints.adapters import Adapter, Adapters, Kind
from app.checkpoints.catalogue import bare_name
from app.errors import CheckpointUnavailable, InvalidParam
from app.graph.tools.weighted import HEAVIEST, Weighted, read_weighted, split_prompt

_NOUNS: Mapping[str, str] = {
    "lora": "LoRA",
    "vae": "autoencoder",
    "controlnet": "ControlNet",
    "upscaler": "upscaler",
    "embedding": "textual inversion",
}
_LATENT, _LANCZOS = "latent", "lanczos"
MOST_LORAS, MOST_CONTROLS = 16, 4


class Fitting:
    """Looks up the adapters of one call, for a checkpoint of `family` (None: for none).

    Where the call is `lenient`, because it was made for another server, what is not here is left out and noted in
    `left_out`. Otherwise each method raises CheckpointUnavailable with the parameter's name.
    """

    def __init__(self, adapters: Adapters, family: str | None, *, lenient: bool) -> None:
        self._adapters = adapters
        self._family = family
        self._lenient = lenient
        self.left_out: list[str] = []

    def loras(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the parameter and of the prompt, as a list of names and weights; those of weight 0 do nothing."""
        named = [(use, "loras") for use in read_weighted(asked.get("loras") or "", "loras")]
        named += [(use, "prompt") for use in split_prompt(asked["prompt"])[1]]
        if len(named) > MOST_LORAS:
            raise InvalidParam(f"loras: at most {MOST_LORAS} at once, got {len(named)}", params="loras")
        found = [self._weighted("lora", use, 1.0, parameter) for use, parameter in named]
        return {"loras": [*filter(None, found)]} if any(found) else {}

    def controls(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The ControlNets, each with a picture; one picture may do for all of them."""
        named, pictures = asked.get("control_net"), asked.get("control_image")
        if not named and not pictures:
            return {}
        if not named or not pictures:
            missing, there = ("control_net", "control_image") if pictures else ("control_image", "control_net")
            raise InvalidParam(f"{missing} is required where there is a {there}", params=missing)
        uses = read_weighted(named, "control_net")
        _check_controls(uses)
        if len(pictures) not in (1, len(uses)):
            said = f"control_image: {len(uses)} ControlNets take one picture, or one each; got {len(pictures)}"
            raise InvalidParam(said, params="control_image")
        begin, end = asked.get("control_start", 0.0), asked.get("control_end", 1.0)
        if begin >= end:
            said = f"control_end must be more than control_start, got {begin:g} and {end:g}"
            raise InvalidParam(said, params="control_end")
        weight = asked.get("control_weight", 1.0)
        found = [self._weighted("controlnet", use, weight, "control_net") for use in uses]
        files = pictures * len(uses) if len(pictures) == 1 else pictures
        kept = [(net, file) for net, file in zip(found, files, strict=True) if net]
        nets, shown = [net for net, _ in kept], [file for _, file in kept]
        return {"control_net": nets, "control_image": shown, "control_start": begin, "control_end": end} if kept else {}

    def vae(self, asked: str | None) -> dict[str, Any]:
        adapter = self._find("vae", asked, "vae") if asked else None
        return {"vae": adapter.name} if adapter else {}

    def upscaler(self, asked: str | None, parameter: str, unsaid: str) -> str:
        """Lanczos, latent (between two passes) or an installed upscaler; `unsaid` where nothing is asked for."""
        word = (asked or unsaid).strip().lower()
        if word == _LANCZOS or (word == _LATENT and unsaid == _LATENT):
            return word
        adapter = self._find("upscaler", asked or unsaid, parameter)
        return adapter.name if adapter else unsaid

    def embeddings(self, *texts: str) -> dict[str, Any]:
        """The installed textual inversions whose name stands in a prompt as a word."""
        words = " ".join(texts).lower()
        named = self._adapters.list("embedding", lambda name: _is_word(name.lower(), words))
        found = [adapter.name for adapter in named if self._is_worn(adapter)]
        return {"embeddings": found} if found else {}

    def _is_worn(self, embedding: Adapter) -> bool:
        """What is called by a word of the prompt may not be meant at all: so one that can't be worn is only noted."""
        why = embedding.problem
        if why is None and not self._fits(embedding):
            why = f"it is for {embedding.family} checkpoints, and this one is {self._family}."
        if why:
            self.left_out.append(f"the textual inversion '{embedding.name}' is left out: {why}")
        return why is None

    def named(self, kind: Kind, name: str) -> str | None:
        """The name of the one that is here for it."""
        adapter = self._find(kind, name, kind)
        return adapter.name if adapter else None

    def _weighted(self, kind: Kind, use: Weighted, weight: float, parameter: str) -> dict[str, Any] | None:
        adapter = self._find(kind, use.name, parameter)
        return {**use.to_value(weight), "name": adapter.name} if adapter else None

    def _find(self, kind: Kind, name: str, parameter: str) -> Adapter | None:
        noun = _NOUNS[kind]
        try:
            adapter = self._adapters.find(kind, bare_name(name))
            if not self._fits(adapter):
                said = f"The {noun} {name!r} is for {adapter.family} checkpoints, and this one is {self._family}."
                raise CheckpointUnavailable(said)
        except CheckpointUnavailable as error:
            if not self._lenient:
                raise CheckpointUnavailable(error.message, params=parameter) from None
            self.left_out.append(f"the {noun} '{name}' is left out: {error.message}")
            return None
        return adapter

    def _fits(self, adapter: Adapter) -> bool:
        """An inpainting checkpoint takes what its plain kin takes; of some files the family can't be told."""
        if adapter.family is None or self._family is None:
            return True
        return adapter.family.partition("-")[0] == self._family.partition("-")[0]


def _check_controls(uses: Sequence[Weighted]) -> None:
    """Raises InvalidParam."""
    if len(uses) > MOST_CONTROLS:
        said = f"control_net: at most {MOST_CONTROLS} at once, got {len(uses)}"
        raise InvalidParam(said, params="control_net")
    for use in uses:
        if use.weight is not None and use.weight < 0:
            said = f"control_net: the weight of '{use.name}' must be from 0 to {HEAVIEST:g}, got {use.weight:g}"
            raise InvalidParam(said, params="control_net")


def _is_word(name: str, text: str) -> bool:
    return name in text and re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None
