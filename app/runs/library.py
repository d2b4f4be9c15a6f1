"""What callers do with models as things to keep: name them, copy them, delete them, bring their own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.checkpoints.blobs import Blobs, read_digest
from app.checkpoints.catalogue import Catalogue
from app.checkpoints.checkpoint import Checkpoint
from app.checkpoints.identify import INDEX
from app.checkpoints.installed import Installed
from app.domain.key import require_scope
from app.domain.model_name import ModelName, parse_name
from app.domain.request import Caller, Scope
from app.errors import InvalidParam
from app.runs.models import Model, ModelNotFound, Models
from app.runs.presets import Presets, Recipe
from app.runs.residency import Residency
from app.settings import Settings
from app.store.presets import presets_of_checkpoint
from app.store.store import Store


class Making(msgspec.Struct, frozen=True):
    """What is asked for: a model of another one (`origin`), or of blobs by the paths that they are to have."""

    name: str
    origin: str = ""
    files: Mapping[str, str] = {}
    adapters: Mapping[str, str] = {}
    recipe: Recipe = Recipe()


class Created(NamedTuple):
    """A new model: the SHA-256 of what was there already, and of what is new, as far as they are known."""

    existing: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


class Library:
    """One public method a verb. Presets need no scope of their own here; the files that all apps share do."""

    def __init__(
        self, store: Store, models: Models, catalogue: Catalogue, residency: Residency, settings: Settings
    ) -> None:
        self._store = store
        self._models = models
        self._residency = residency
        self.presets = Presets(store, catalogue)
        self.installed = Installed(settings, catalogue)
        self.blobs = Blobs(settings.checkpoints_dir, settings.blob_mb << 20)

    async def create(self, caller: Caller, making: Making) -> Created:
        """A preset of another model, or a checkpoint of posted blobs: of one file, or of those of a diffusers folder.

        A checkpoint whose name has more than a file's may have, or that has parameters, is a preset too. Raises
        Forbidden, InvalidParam, ModelNotFound, CheckpointUnavailable for what is no checkpoint, Unavailable.
        """
        named = parse_name(making.name)
        if making.files or making.adapters:
            require_scope(caller, Scope.CHECKPOINTS, "Making a model of files")
        files = {path: read_digest(digest) for path, digest in making.files.items()}
        adapters = {path: read_digest(digest) for path, digest in making.adapters.items()}
        if making.origin:
            source = await self._models.find(caller, making.origin)
        elif files:
            checkpoint = await self._place(named, files)
            source = Model(checkpoint.name, checkpoint)
        else:
            raise InvalidParam("neither 'from' or 'files' was specified", params="from")
        recipe = await self._with_adapters(making.recipe, adapters)
        new = (*(() if making.origin else files.values()), *adapters.values())
        if not making.origin and source.name.lower() == named.plain.lower() and not recipe.says_something:
            await self.presets.release(caller, making.name)  # of this name, the checkpoint is meant from now on
            return Created(new=new)
        made = await self.presets.create(caller, making.name, source, recipe)
        existing = await asyncio.to_thread(self.installed.sha256, source.checkpoint) if making.origin else ""
        return Created((existing,) if existing else (), (*new, made.digest))

    async def _place(self, named: ModelName, files: Mapping[str, str]) -> Checkpoint:
        if len(files) > 1 and INDEX not in files:
            raise InvalidParam(
                f"a checkpoint is one file, or a diffusers folder with its {INDEX}; got {', '.join(files)}",
                params="files",
            )
        sources = {path: self._blob(path, sha256) for path, sha256 in files.items()}
        return await asyncio.to_thread(self.installed.place, file_stem(named), sources, files)

    async def _with_adapters(self, recipe: Recipe, adapters: Mapping[str, str]) -> Recipe:
        """The LoRAs lie among the others from now on, and are put on after those of the parameters."""
        if not adapters:
            return recipe
        sources = {path: self._blob(path, sha256) for path, sha256 in adapters.items()}
        names = [
            await asyncio.to_thread(self.installed.place_lora, path, source, adapters[path])
            for path, source in sources.items()
        ]
        before = recipe.parameters.get("loras")
        loras = ", ".join([str(before), *names] if before else names)
        return msgspec.structs.replace(recipe, parameters={**recipe.parameters, "loras": loras})

    def _blob(self, path: str, sha256: str) -> Path:
        found = self.blobs.find(sha256)
        if found is None:
            raise InvalidParam(f"blob not found for {path} (digest sha256:{sha256}): post it first", params="files")
        return found

    async def copy(self, caller: Caller, source: str, name: str) -> None:
        """The same model under another name; no file is copied. Raises InvalidParam, ModelNotFound."""
        await self.presets.copy(caller, await self._models.find(caller, source), name)

    async def delete(self, caller: Caller, name: str) -> None:
        """Forgets the app's preset of that name; where there is none, deletes the checkpoint that is called so.

        It leaves the workers' memory, too, as soon as nobody is painted with it.

        Raises ModelNotFound, Forbidden, InvalidParam for a checkpoint that presets paint with, Unavailable.
        """
        preset = await self._models.preset(caller, name)
        if preset is not None:
            return await self.presets.forget(caller, preset)
        checkpoint = self._models.installed(name)
        if checkpoint is None:
            raise ModelNotFound(name)
        require_scope(caller, Scope.CHECKPOINTS, "Deleting a checkpoint")
        self.installed.require_own(checkpoint)
        await self._require_unused(caller, checkpoint)
        await asyncio.to_thread(self.installed.remove, checkpoint)
        await self._residency.dismiss(checkpoint.name)

    async def _require_unused(self, caller: Caller, checkpoint: Checkpoint) -> None:
        found = await self._store.read(lambda tx: presets_of_checkpoint(tx, checkpoint.name))
        own = [name for app_id, name in found if app_id == caller.app_id]
        others = [f"{len(found) - len(own)} of other apps"] if len(found) > len(own) else []
        if found:
            named = ", ".join(own + others)
            said = f"model '{checkpoint.name}' is what other models paint with: {named}; delete them first"
            raise InvalidParam(said, params="model")


def file_stem(named: ModelName) -> str:
    """What a checkpoint's file is called whose model has that name."""
    return named.plain.replace("/", "-").replace(":", "-")
