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

_given_content = (
    select(*(uploads.c[name] for name in Upload.__struct_fields__))
    .where(
        uploads.c.sha256 == bindparam("sha256"),
        uploads.c.app_id == bindparam("app_id"),
        uploads.c.user == bindparam("of_user"),
    )
    .order_by(uploads.c.created_at.desc(), uploads.c.id)
    .limit(1)
)
_made_content = (
    select(*(artifacts.c[name] for name in Artifact.__struct_fields__))
    .join(runs, runs.c.id == artifacts.c.run_id)
    .where(
        artifacts.c.sha256 == bindparam("sha256"),
        runs.c.app_id == bindparam("app_id"),
        runs.c.user == bindparam("of_user"),
    )
    .order_by(artifacts.c.created_at.desc(), artifacts.c.id)
    .limit(1)
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


def find_content_for(tx: Tx, app_id: str, user: str, sha256: str) -> Upload | Artifact | None:
    """A file of these bytes that the user gave, or that a run of the app made for the user: the latest of them."""
    asked = {"app_id": app_id, "of_user": user, "sha256": sha256}
    if row := tx.row(_given_content, asked):
        return Upload(*row)
    made = tx.row(_made_content, asked)
    return Artifact(*made) if made else None
