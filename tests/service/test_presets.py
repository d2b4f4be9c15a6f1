"""The rows of presets, on both databases."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec

from app.domain.preset import Preset
from app.installation import FIRST_APP, app_named, open_store, publish_first_app
from app.settings import load_settings
from app.store.presets import delete_preset, find_preset, list_presets, presets_of_checkpoint, put_preset


def test_a_preset_is_stored_replaced_and_deleted(tmp_path: Path, database_url: str) -> None:
    settings = load_settings(data_dir=tmp_path, database_url=database_url)
    with open_store(settings) as store:
        store.commit_blocking(publish_first_app)
        app = store.read_blocking(lambda tx: app_named(tx, FIRST_APP))
        sketch = Preset(app, "Me/Sketch:latest", "shapes", "shapes", {"steps": 3}, "s", "t", ("one", "two"))
        store.commit_blocking(partial(put_preset, preset=sketch))
        stored = store.read_blocking(lambda tx: find_preset(tx, app, "me/sketch:latest"))
        assert stored is not None
        assert msgspec.structs.replace(stored, created_at=0.0, modified_at=0.0) == sketch
        assert 0 < stored.created_at <= stored.modified_at
        other = msgspec.structs.replace(sketch, name="me/SKETCH:latest", parameters={})
        store.commit_blocking(partial(put_preset, preset=other))
        [again] = store.read_blocking(lambda tx: list_presets(tx, app))
        assert (again.name, again.parameters, again.created_at) == ("me/SKETCH:latest", {}, stored.created_at)
        assert again.modified_at >= stored.modified_at
        assert store.read_blocking(lambda tx: presets_of_checkpoint(tx, "shapes")) == [(app, "me/SKETCH:latest")]
        assert store.read_blocking(lambda tx: find_preset(tx, "another-app", "me/sketch:latest")) is None
        deletions = [store.commit_blocking(lambda tx: delete_preset(tx, app, "me/sketch:latest")) for _ in range(2)]
        assert deletions == [True, False]
