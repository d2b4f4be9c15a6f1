"""The rows of artifacts, and what any row of a file names; the bytes lie in the artifact store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import BindParameter, bindparam, insert, select, union

from app.domain.artifact import Artifact
from app.store.engine import Tx
from app.store.schema import artifacts, uploads

# Statements are compiled once, so one asks for a fixed number; a shorter list is filled up with what no row has.
_ASKED = 200

_COLUMNS = tuple(artifacts.c[name] for name in Artifact.__struct_fields__)
_insert_artifact = insert(artifacts)
_by_id = select(*_COLUMNS).where(artifacts.c.id == bindparam("artifact_id"))
_by_run = (
    select(*_COLUMNS)
    .where(artifacts.c.run_id == bindparam("run_id"))
    .order_by(artifacts.c.created_at, artifacts.c.step_id, artifacts.c.seed, artifacts.c.id)
)
_any = select(artifacts.c.id).limit(1)
_any_upload = select(uploads.c.id).limit(1)
_listed: list[BindParameter[str]] = [bindparam(f"s{n}") for n in range(_ASKED)]
_named = union(*(select(table.c.sha256).where(table.c.sha256.in_(_listed)) for table in (artifacts, uploads)))


def insert_artifacts(tx: Tx, new: Iterable[Artifact], now: float) -> None:
    for artifact in new:
        tx.put(_insert_artifact, {**msgspec.structs.asdict(artifact), "created_at": now})


def find_artifact(tx: Tx, artifact_id: str) -> Artifact | None:
    row = tx.row(_by_id, {"artifact_id": artifact_id})
    return Artifact(*row) if row else None


def artifacts_of(tx: Tx, run_id: str) -> list[Artifact]:
    """What a run has made, in the order in which it did."""
    return [Artifact(*row) for row in tx.rows(_by_run, {"run_id": run_id})]


def has_files(tx: Tx) -> bool:
    """True when there is any row of an artifact or an upload at all."""
    return tx.row(_any) is not None or tx.row(_any_upload) is not None


def named_sha256s(tx: Tx, asked: Sequence[str]) -> set[str]:
    """Which of these contents a row names."""
    named: set[str] = set()
    for start in range(0, len(asked), _ASKED):
        part = asked[start : start + _ASKED]
        values = {f"s{n}": part[n] if n < len(part) else "" for n in range(_ASKED)}
        named.update(row[0] for row in tx.rows(_named, values))
    return named
