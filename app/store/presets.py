"""The rows of models that callers have named."""

from __future__ import annotations

import msgspec
from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects import postgresql

from app.domain.preset import Preset
from app.store.engine import Row, Tx
from app.store.rows import from_json, to_json
from app.store.schema import now_s, presets

_JSON = ("parameters", "license")
_FIELDS = Preset.__struct_fields__
_GIVEN = ("app_id", "folded", *(name for name in _FIELDS if name not in ("app_id", "created_at", "modified_at")))
_new = postgresql.insert(presets).values({name: bindparam(name) for name in _GIVEN})
_new = _new.values(created_at=now_s(), modified_at=now_s())
_changed = {name: _new.excluded[name] for name in (*_GIVEN, "modified_at") if name not in ("app_id", "folded")}
_put = _new.on_conflict_do_update(index_elements=[presets.c.app_id, presets.c.folded], set_=_changed)
_of_app = select(*(presets.c[name] for name in _FIELDS)).where(presets.c.app_id == bindparam("app"))
_listed = _of_app.order_by(presets.c.folded)
_by_name = _of_app.where(presets.c.folded == bindparam("name"))
_delete = delete(presets).where(presets.c.app_id == bindparam("app"), presets.c.folded == bindparam("name"))
_painting_with = (
    select(presets.c.app_id, presets.c.name)
    .where(presets.c.checkpoint == bindparam("of_checkpoint"))
    .order_by(presets.c.folded)
)


def put_preset(tx: Tx, preset: Preset) -> None:
    """Stores it in the place of the app's one of that name, if there is one; the database's clock says when."""
    row = {**msgspec.structs.asdict(preset), "folded": preset.folded}
    tx.put(_put, row | {name: to_json(row[name]) for name in _JSON})


def find_preset(tx: Tx, app_id: str, folded: str) -> Preset | None:
    row = tx.row(_by_name, {"app": app_id, "name": folded})
    return _preset(row) if row else None


def list_presets(tx: Tx, app_id: str) -> list[Preset]:
    """An app's, by name."""
    return [_preset(row) for row in tx.rows(_listed, {"app": app_id})]


def delete_preset(tx: Tx, app_id: str, folded: str) -> bool:
    """False when there was none."""
    return tx.run(_delete, {"app": app_id, "name": folded}) > 0


def presets_of_checkpoint(tx: Tx, checkpoint: str) -> list[tuple[str, str]]:
    """(app id, name) of all that paint with it, whosever they are."""
    return [(app_id, name) for app_id, name in tx.rows(_painting_with, {"of_checkpoint": checkpoint})]


def _preset(row: Row) -> Preset:
    named = dict(zip(_FIELDS, row, strict=True))
    named["parameters"], named["license"] = from_json(named["parameters"]), tuple(from_json(named["license"]))
    return Preset(**named)
