"""A checkpoint is loaded before its first picture, kept for a time that its requests say, and unloaded, over HTTP."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from app.checkpoints.catalogue import SHIPPED_FOLDER
from tests.api.test_painting_side_by_side import rows
from tests.api.test_pictures import picture
from tests.servers import ROOT, Atelier
from tests.unit.drawing import draw, end, field, start, tool
from workers.diffusion.checkpoint.export import export_single_file

OTHER = "kept"  # a checkpoint that no other test asks for
PROMPT = {"type": "mixed", "value": "a red circle"}
NUMBER = {"type": "variable", "value": ["start", "keep_alive_s"]}


@pytest.fixture(scope="module")
def keeper(atelier: Atelier) -> str:
    """A key of the document that ships; there is a second checkpoint."""
    shutil.copytree(SHIPPED_FOLDER / "atelier-shapes", atelier.checkpoints_dir / OTHER)
    return atelier.app_key(ROOT / "workflows/keep-checkpoint.yml")


def keep(server: Atelier, key: str, **inputs: Any) -> dict[str, Any]:
    answer = server.run({"model_name": OTHER, **inputs}, key).json()["data"]
    assert answer["status"] == "succeeded", answer
    return dict(answer["outputs"])


def left_s(server: Atelier) -> list[float | None]:
    """How long the second checkpoint stays where it is in memory, as all can know."""
    now_s = "(julianday('now') - 2440587.5) * 86400"
    return [row[0] for row in rows(server, f"SELECT expires_at - {now_s} FROM residents WHERE checkpoint = '{OTHER}'")]


def test_a_checkpoint_is_loaded_kept_and_unloaded_without_a_picture(atelier: Atelier, keeper: str) -> None:
    assert keep(atelier, keeper, keep_alive_s=0) == {"resident": False, "load_s": 0}, "it was not there"
    first = keep(atelier, keeper, keep_alive_s=300)
    assert (first["resident"], first["load_s"] > 0) == (True, True)
    assert left_s(atelier) == [pytest.approx(300, abs=30)]
    for _ in range(5):  # an answer comes when all can know what it says, not some time before that
        assert keep(atelier, keeper) == {"resident": True, "load_s": 0}
        assert left_s(atelier) == [None], "it stays, as the server's setting says"
        keep(atelier, keeper, keep_alive_s=600)
        assert left_s(atelier) == [pytest.approx(600, abs=30)]
    assert keep(atelier, keeper, keep_alive_s=0) == {"resident": False, "load_s": 0}
    assert left_s(atelier) == []


def test_a_picture_says_how_long_its_checkpoint_stays(atelier: Atelier, keeper: str, tmp_path: Path) -> None:
    document = tmp_path / "paint.yml"
    paint = tool(
        settings={"model_name": OTHER, "steps": 1, "width": 64, "height": 64}, prompt=PROMPT, keep_alive_s=NUMBER
    )
    document.write_text(draw([start(field("keep_alive_s", "number")), paint, end()], ["start > paint", "paint > end"]))
    key = atelier.app_key(document)
    atelier.run({"keep_alive_s": 300}, key)
    atelier.until("it stays so long", lambda: left_s(atelier) == [pytest.approx(300, abs=30)])
    atelier.run({"keep_alive_s": 0}, key)
    atelier.until("it has left", lambda: left_s(atelier) == [])


@pytest.mark.parametrize(
    ("inputs", "said"),
    [({"model_name": "unknown"}, "no checkpoint 'unknown'"), ({"keep_alive_s": 1e10}, "keep_alive_s must be a number")],
)
def test_what_can_t_be_kept_is_refused_before_there_is_a_run(
    atelier: Atelier, keeper: str, inputs: dict[str, Any], said: str
) -> None:
    answer = atelier.run(inputs, keeper)
    assert answer.status_code == 400
    assert said in answer.json()["message"]


def test_a_picture_is_of_the_file_as_it_is_and_says_its_hash(atelier: Atelier) -> None:
    file, pictures = atelier.checkpoints_dir / "swapped.safetensors", []
    export_single_file(SHIPPED_FOLDER / "atelier-shapes", file)
    weights = load_file(file)
    for factor in (1.0, 1.02):
        save_file({name: tensor * factor for name, tensor in weights.items()}, file)
        answer = atelier.run({"prompt": "a red circle", "model_name": "swapped", "steps": 2, "seed": 3}).json()["data"]
        pictures.append(picture(atelier, answer["outputs"]["files"][0]))
        expected = hashlib.sha256(file.read_bytes()).hexdigest()[:10]
        assert json.loads(pictures[-1].text["atelier"])["checkpoint_hash"] == expected  # type: ignore[attr-defined]
    assert pictures[0].tobytes() != pictures[1].tobytes()
    housed = "SELECT 1 FROM residents WHERE checkpoint = 'swapped' AND size < 40000000"
    atelier.until("the old one has left", lambda: len(rows(atelier, housed)) == 1)
