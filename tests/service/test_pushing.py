"""Checkpoints go to a hub that breaks off, falls silent, or is not there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.checkpoints.catalogue import open_catalogue
from app.errors import Unavailable
from app.runs import pushing
from app.runs.pushing import Destination, Pusher
from app.settings import load_settings
from tests.hub import Hub, hub_running
from tests.workers.headers import sd2, write

TOKEN = "hf_mine"
WORDS = "cond_stage_model.model.token_embedding.weight"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Which nobody waits for long, nor between two tries."""
    monkeypatch.setattr(pushing, "_SILENCE_S", 0.5)
    monkeypatch.setattr(time, "sleep", lambda s: None)
    pushing._set_up_hub.cache_clear()
    with hub_running() as one:
        yield one
    pushing._set_up_hub.cache_clear()


def push(folder: Path, address: str) -> bytes:
    """What was pushed to `me/x`."""
    (folder / "checkpoints").mkdir()
    file = write(folder / "checkpoints" / "own.safetensors", {**sd2(), WORDS: [64, 1024]}, 0)
    settings = load_settings(data_dir=folder, checkpoints_dir=file.parent, hub_url=address, hub_token=TOKEN)
    own = open_catalogue(settings).get("own")
    Pusher(settings).push(own, Destination("me/x"), lambda *told: None)
    return file.read_bytes()


@pytest.mark.parametrize("trouble", ["cut", "silent", "500"])
def test_an_upload_that_is_cut_is_tried_again(hub: Hub, trouble: str, tmp_path: Path) -> None:
    hub.upload_troubles = [trouble, trouble]
    pushed = push(tmp_path, hub.address)
    assert hub.repositories["me/x"] == {"own.safetensors": pushed}
    assert len([path for path, _ in hub.asked if path.startswith("/uploads/")]) == 3


def test_one_that_never_comes_through_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.upload_troubles = ["cut"] * 100
    with pytest.raises(Unavailable, match="me/x can't be pushed to http"):
        push(tmp_path, hub.address)
    assert hub.repositories["me/x"] == {}


def test_a_hub_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"me/x can't be pushed to http://127\.0\.0\.1:1: .*refused"):
        push(tmp_path, "http://127.0.0.1:1")
