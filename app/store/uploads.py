"""The rows of files that callers gave; their bytes lie in the artifact store."""

from __future__ import annotations

import msgspec
from sqlalchemy import bindparam, select
from sqlalchemy.dialects import postgresql

from app.domain.artifact import Artifact, Upload
from app.store.engine import Tx
from app.store.schema import artifacts, runs, uploads

_insert_upload = postgresql.insert(uploads).on_conflict_do_nothing(index_elements=[uploads.c.id])  # done again: as well
_by_id = select(*(uploads.c[name] for name in Upload.__struct_fields__)).where(uploads.c.id == bindparam("upload_id"))
_made_for = (
    select(*(artifacts.c[name] for name in Artifact.__struct_fields__))
    .join(runs, runs.c.id == artifacts.c.run_id)
    .where(
        artifacts.c.id == bindparam("artifact_id"),
        runs.c.app_id == bindparam("app_id"),
        runs.c.user == bindparam("of_user"),
    )
)


def insert_upload(tx: Tx, upload: Upload) -> None:
    tx.put(_insert_upload, msgspec.structs.asdict(upload))


def find_upload(tx: Tx, upload_id: str) -> Upload | None:
    row = tx.row(_by_id, {"upload_id": upload_id})
    return Upload(*row) if row else None


def find_upload_of(tx: Tx, app_id: str, user: str | None, upload_id: str) -> Upload | None:
    """The upload, if it is the app's and the user's; None for the user asks for anybody's of the app."""
    found = find_upload(tx, upload_id)
    if found is None or found.app_id != app_id or user not in (None, found.user):
        return None
    return found


def find_artifact_for(tx: Tx, app_id: str, user: str, artifact_id: str) -> Artifact | None:
    """What a run of the app made for the user."""
    row = tx.row(_made_for, {"artifact_id": artifact_id, "app_id": app_id, "of_user": user})
    return Artifact(*row) if row else None
