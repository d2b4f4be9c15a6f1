"""What is taken out of the folder of the checkpoints is what lies in it, and nothing that it leads to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from app.checkpoints.catalogue import SHIPPED_FOLDER, open_catalogue
from app.checkpoints.installed import Installed
from app.errors import CheckpointUnavailable, Forbidden
from app.settings import Settings, load_settings
from tests.workers.headers import sd2, write


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "checkpoints").mkdir()
    return load_settings(data_dir=tmp_path, checkpoints_dir=tmp_path / "checkpoints")


def test_a_folder_is_deleted_and_its_card_stays(settings: Settings) -> None:
    shutil.copytree(SHIPPED_FOLDER / "atelier-shapes", settings.checkpoints_dir / "mine")
    (settings.checkpoints_dir / "mine.toml").write_text("steps = 4")
    catalogue = open_catalogue(settings)
    Installed(settings, catalogue).remove(catalogue.get("mine"))
    assert [path.name for path in settings.checkpoints_dir.iterdir()] == ["mine.toml"]
    with pytest.raises(CheckpointUnavailable):
        catalogue.get("mine")


def test_of_a_link_the_link_alone_is_deleted(settings: Settings, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(SHIPPED_FOLDER / "atelier-shapes", elsewhere)
    (settings.checkpoints_dir / "linked").symlink_to(elsewhere)
    catalogue = open_catalogue(settings)
    Installed(settings, catalogue).remove(catalogue.get("linked"))
    assert list(settings.checkpoints_dir.iterdir()) == []
    assert (elsewhere / "unet" / "config.json").is_file()


def test_what_ships_is_not_deleted(settings: Settings) -> None:
    catalogue = open_catalogue(settings)
    with pytest.raises(Forbidden, match="ships with Atelier"):
        Installed(settings, catalogue).remove(catalogue.get("atelier-shapes"))


def test_a_checkpoint_that_lacks_a_part_does_not_stay(settings: Settings, tmp_path: Path) -> None:
    shapes = {name: shape for name, shape in sd2().items() if "token_embedding" not in name}
    dumb, installed = write(tmp_path / "dumb", shapes), Installed(settings, open_catalogue(settings))
    with pytest.raises(CheckpointUnavailable, match=r"dumb\.safetensors has no text encoder in it"):
        installed.place("dumb", {"dumb.safetensors": dumb}, {})
    assert list(settings.checkpoints_dir.iterdir()) == []
    assert dumb.is_file()
