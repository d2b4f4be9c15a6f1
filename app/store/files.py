"""The rows of artifacts; their bytes lie in the artifact store."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from sqlalchemy import bindparam, insert, select

from app.domain.artifact import Artifact
from app.store.engine import Tx
from app.store.schema import artifacts

_COLUMNS = tuple(artifacts.c[name] for name in Artifact.__struct_fields__)
_insert_artifact = insert(artifacts)
_by_id = select(*_COLUMNS).where(artifacts.c.id == bindparam("artifact_id"))


def insert_artifacts(tx: Tx, new: Iterable[Artifact], now: float) -> None:
    for artifact in new:
        tx.put(_insert_artifact, {**msgspec.structs.asdict(artifact), "created_at": now})


def find_artifact(tx: Tx, artifact_id: str) -> Artifact | None:
    row = tx.row(_by_id, {"artifact_id": artifact_id})
    return Artifact(*row) if row else None
