"""Models that an app's callers name: made of a checkpoint or of one another, copied, forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from app.checkpoints.catalogue import Catalogue
from app.domain.model_name import parse_name
from app.domain.preset import Preset
from app.domain.request import Caller
from app.errors import InvalidParam
from app.runs.models import Model, ModelNotFound
from app.runs.preset_parameters import check_parameters
from app.store.presets import delete_preset, put_preset
from app.store.store import Store

_LONGEST_TEXT = 100_000


class Recipe(msgspec.Struct, frozen=True):
    """What a preset is made of besides the model that it comes from. None and what is not there stay as they are."""

    parameters: Mapping[str, Any] = {}
    system: str | None = None
    template: str | None = None
    license: tuple[str, ...] | None = None

    @property
    def says_something(self) -> bool:
        return bool(self.parameters or self.system or self.template or self.license)


class Presets:
    """Makes, copies and forgets presets. Two that write one name at once: the last one counts."""

    def __init__(self, store: Store, catalogue: Catalogue) -> None:
        self._store = store
        self._catalogue = catalogue

    async def create(self, caller: Caller, name: str, source: Model, recipe: Recipe) -> Preset:
        """A preset from another model; it replaces one of that name.

        Raises InvalidParam for the name, a parameter or a text, CheckpointUnavailable.
        """
        named = parse_name(name)
        given = {**(source.preset.parameters if source.preset else {}), **recipe.parameters}
        parameters = check_parameters(given, source.checkpoint, self._catalogue.adapters)
        before = source.preset or Preset("", "", "")
        made = Preset(
            caller.app_id,
            named.shown,
            source.checkpoint.name,
            source.name,
            parameters,
            before.system if recipe.system is None else _text("system", recipe.system),
            before.template if recipe.template is None else _text("template", recipe.template),
            before.license if recipe.license is None else tuple(_text("license", each) for each in recipe.license),
        )
        await self._store.commit(lambda tx: put_preset(tx, made))
        return made

    async def copy(self, caller: Caller, source: Model, name: str) -> None:
        """The same model under another name, too. Raises InvalidParam."""
        before = source.preset or Preset(caller.app_id, "", source.checkpoint.name, source.name)
        made = msgspec.structs.replace(before, name=parse_name(name).shown)
        await self._store.commit(lambda tx: put_preset(tx, made))

    async def forget(self, caller: Caller, preset: Preset) -> None:
        """Raises ModelNotFound when somebody else was faster."""
        if not await self.release(caller, preset.name):
            raise ModelNotFound(preset.name)

    async def release(self, caller: Caller, name: str) -> bool:
        """No preset has the name any more; False when none had it. Raises InvalidParam."""
        folded = parse_name(name).folded
        return await self._store.commit(lambda tx: delete_preset(tx, caller.app_id, folded) or tx.again)


def _text(field: str, text: str) -> str:
    if len(text) > _LONGEST_TEXT:
        raise InvalidParam(f"{field}: at most {_LONGEST_TEXT} characters, got {len(text)}", params=field)
    return text.replace("\0", "")
