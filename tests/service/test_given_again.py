"""A file found by what it holds: among a user's own, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from app.domain.artifact import Artifact, Upload
from app.ids import new_id
from app.store.files import insert_artifacts
from app.store.uploads import find_content_for, insert_upload
from tests.service.house import House, new_house

GIVEN, MADE = "a" * 64, "b" * 64
UPLOAD = Upload(new_id(), "app", "user", GIVEN, 3, "image/png", ".png", "given.png", None, 1.0)


def test_a_file_is_found_by_its_content_for_its_own_user_alone(tmp_path: Path, database_url: str) -> None:
    with new_house(tmp_path, database_url) as house:
        house.add_key("key")
        made = Artifact(new_id(), house.submit(), new_id(), MADE, 3, "image/png", ".png", "made.png")
        later = msgspec.structs.replace(UPLOAD, id=new_id(), created_at=2.0)
        for each in (UPLOAD, later):
            house.store.commit_blocking(lambda tx, each=each: insert_upload(tx, each))
        house.store.commit_blocking(lambda tx: insert_artifacts(tx, [made], 1.0))
        assert found(house, GIVEN) == later
        assert found(house, MADE) == made
        for stranger in ({"app_id": "another"}, {"user": "another"}, {"sha256": "c" * 64}):
            assert found(house, **{"sha256": GIVEN, **stranger}) is None
            assert found(house, **{"sha256": MADE, **stranger}) is None


def found(house: House, sha256: str, app_id: str = "app", user: str = "user") -> Any:
    return house.store.read_blocking(lambda tx: find_content_for(tx, app_id, user, sha256))
