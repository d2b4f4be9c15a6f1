"""What callers name as a model: checkpoints and presets, by any of the names that other servers' clients give them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from app.checkpoints.catalogue import Catalogue
from app.checkpoints.checkpoint import Checkpoint
from app.domain.model_name import ModelName, parse_name
from app.domain.preset import Preset
from app.domain.request import Caller
from app.errors import InvalidParam, NotFound
from app.store.presets import find_preset, list_presets
from app.store.store import Store

TAG = ":latest"


class ModelNotFound(NotFound):
    """There is no model of this name. Take one of those that the list of models has."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The model '{name}' does not exist.", params="model")
        self.name = name


class Model(msgspec.Struct, frozen=True):
    """Something that paints, under a name: a checkpoint, or a preset with the values that a request leaves open.

    `name` is without the tag `:latest`.
    """

    name: str
    checkpoint: Checkpoint
    defaults: Mapping[str, Any] = {}
    preset: Preset | None = None


class Models:
    """Finds models by name, whatever the case, with or without the tag `:latest` behind it.

    Of one name, the app's preset counts before the checkpoint.
    """

    def __init__(self, catalogue: Catalogue, stand_ins: Mapping[str, str], store: Store) -> None:
        """`stand_ins`: checkpoints for names that other people's programs ask for."""
        self._catalogue = catalogue
        self._stand_ins = {name.lower(): checkpoint for name, checkpoint in stand_ins.items()}
        self._store = store

    async def list(self, caller: Caller) -> list[Model]:
        """All that the caller may paint with, by name. A preset whose checkpoint is not there is left out."""
        presets = await self._store.read(lambda tx: list_presets(tx, caller.app_id))
        listed = await asyncio.to_thread(self._catalogue.list)  # of thousands the first look takes seconds
        checkpoints = {each.name: each for each in listed if not each.problem}
        found = [Model(each.name, each) for each in checkpoints.values()]
        found += [
            preset_model(each, checkpoints[each.checkpoint]) for each in presets if each.checkpoint in checkpoints
        ]
        by_name = {each.name.lower(): each for each in found}
        return [by_name[name] for name in sorted(by_name)]

    async def find(self, caller: Caller, name: str) -> Model:
        """The model of that name; the default for an empty one. Raises ModelNotFound, CheckpointUnavailable."""
        if not name:
            default = self._catalogue.default()
            return Model(default.name, default)
        preset = await self.preset(caller, name)
        if preset is not None:
            return preset_model(preset, self._catalogue.get(preset.checkpoint))
        return self.checkpoint(name)

    def checkpoint(self, name: str) -> Model:
        """The same without presets. Raises ModelNotFound, CheckpointUnavailable."""
        found = self.installed(name)
        if found is not None and not found.problem:
            return Model(found.name, found)
        asked = _asked(name)
        stand_in = self._stand_ins.get(asked) or self._catalogue.alias(asked)
        if stand_in is None:
            raise ModelNotFound(name)
        return Model(stand_in, self._catalogue.get(stand_in))

    def installed(self, name: str) -> Checkpoint | None:
        """The checkpoint that is called so itself, usable or not."""
        return self._catalogue.called(_asked(name))

    async def preset(self, caller: Caller, name: str) -> Preset | None:
        """The app's preset of that name, whether or not its checkpoint is there."""
        named = _parsed(name)
        if named is None:
            return None
        return await self._store.find(lambda tx: find_preset(tx, caller.app_id, named.folded))


def preset_model(preset: Preset, checkpoint: Checkpoint) -> Model:
    """A preset as what requests name."""
    return Model(parse_name(preset.name).plain, checkpoint, preset.parameters, preset)


def plain_name(name: str) -> str:
    """A name as it is compared: in small letters, without its extension and the tag that every name has."""
    return name.strip().lower().removesuffix(TAG).removesuffix(".safetensors").removesuffix(".ckpt")


def _asked(name: str) -> str:
    named = _parsed(name)
    return plain_name(named.plain if named else name)


def _parsed(name: str) -> ModelName | None:
    """None for what can be a checkpoint's name alone: a file may have any."""
    try:
        return parse_name(name)
    except InvalidParam:
        return None
