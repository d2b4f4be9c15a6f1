"""What callers name as a model: checkpoints, by any of the names that other servers' clients give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from app.checkpoints.catalogue import Catalogue
from app.checkpoints.checkpoint import Checkpoint
from app.domain.request import Caller
from app.errors import NotFound

TAG = ":latest"


class ModelNotFound(NotFound):
    """There is no model of this name. Take one of those that the list of models has."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The model '{name}' does not exist.", params="model")
        self.name = name


class Model(msgspec.Struct, frozen=True):
    """Something that paints, under a name: a checkpoint, and the values that a request leaves open."""

    name: str
    checkpoint: Checkpoint
    defaults: Mapping[str, Any] = {}


class Models:
    """Finds models by name, whatever the case, with or without the tag `:latest` behind it."""

    def __init__(self, catalogue: Catalogue, stand_ins: Mapping[str, str]) -> None:
        """`stand_ins`: checkpoints for names that other people's programs ask for."""
        self._catalogue = catalogue
        self._stand_ins = {name.lower(): checkpoint for name, checkpoint in stand_ins.items()}

    async def list(self, caller: Caller) -> list[Model]:
        """All that the caller may paint with, by name."""
        return [Model(each.name, each) for each in self._catalogue.list() if not each.problem]

    async def find(self, caller: Caller, name: str) -> Model:
        """The model of that name; the default for an empty one. Raises ModelNotFound, CheckpointUnavailable."""
        if not name:
            default = self._catalogue.default()
            return Model(default.name, default)
        asked = plain_name(name)
        for checkpoint in self._catalogue.list():
            if checkpoint.name.lower() == asked and not checkpoint.problem:
                return Model(checkpoint.name, checkpoint)
        stand_in = self._stand_ins.get(asked) or self._catalogue.alias(asked)
        if stand_in is None:
            raise ModelNotFound(name)
        return Model(stand_in, self._catalogue.get(stand_in))


def plain_name(name: str) -> str:
    """A name as it is compared: in small letters, without its extension and the tag that every name has."""
    return name.strip().lower().removesuffix(TAG).removesuffix(".safetensors").removesuffix(".ckpt")
