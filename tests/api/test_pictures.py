"""Pictures over HTTP: painted by the worker with the checkpoint that ships, fetched under signed URLs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from app.checkpoints.catalogue import SHIPPED_FOLDER
from app.client import curl
from tests.api.test_run_object import ARTIFACT_FIELDS, including, paint_of
from tests.api.test_runs import events
from tests.servers import Atelier
from workers.diffusion.checkpoint.export import export_single_file

SEED_REQUEST = Path(__file__).with_name("seed_request.sh")
FILE_KEYS = {
    "__variant",
    "tenant_id",
    "type",
    "transfer_method",
    "url",
    "related_id",
    "filename",
    "extension",
    "mime_type",
}


def picture(server: Atelier, file: dict[str, Any]) -> Image.Image:
    answer = server.http.get(file["url"], headers={"authorization": ""})
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


@pytest.fixture(scope="module")
def red_circle(atelier: Atelier) -> dict[str, Any]:
    """A finished run's answer."""
    answer = atelier.run({"prompt": "a red circle on a blue background", "seed": 5, "steps": 10})
    assert answer.json()["data"]["status"] == "succeeded", answer.text
    return dict(answer.json())


def test_the_request_of_the_seed_works_as_it_stands(atelier: Atelier) -> None:
    """The curl call of the project's first document, with the host and the key changed."""
    export_single_file(
        SHIPPED_FOLDER / "atelier-shapes", atelier.checkpoints_dir / "chilloutmix_NiPrunedFp32Fix.safetensors"
    )
    call = SEED_REQUEST.read_text().replace("http://sl.vrgon.com:6060", atelier.url).replace("{api_key}", atelier.key)
    done = subprocess.run(["bash", "-c", call], capture_output=True, text=True, check=True)
    body = json.loads(done.stdout)
    assert body["data"]["status"] == "succeeded"
    assert list(body["data"]["outputs"]) == ["files"]
    (file,) = body["data"]["outputs"]["files"]
    assert set(file) >= FILE_KEYS
    assert (file["__variant"], file["type"], file["transfer_method"]) == ("FileVar", "image", "tool_file")
    assert file["url"].startswith(f"/files/tools/{file['related_id']}.png?timestamp=")
    assert picture(atelier, file).format == "PNG"


def test_the_same_seed_paints_the_same_picture(atelier: Atelier, red_circle: dict[str, Any]) -> None:
    again = atelier.run({"prompt": "a red circle on a blue background", "seed": 5, "steps": 10}).json()
    first, second = (picture(atelier, run["data"]["outputs"]["files"][0]) for run in (red_circle, again))
    assert first.tobytes() == second.tobytes()


def test_picture_i_of_n_has_seed_plus_i(atelier: Atelier) -> None:
    inputs = {"prompt": "a green star on a white background", "steps": 8}
    many = atelier.run({**inputs, "seed": 10, "n": 3}).json()["data"]["outputs"]["files"]
    alone = atelier.run({**inputs, "seed": 12}).json()["data"]["outputs"]["files"]
    assert len(many) == 3
    third, single = picture(atelier, many[2]).convert("RGB"), picture(atelier, alone[0]).convert("RGB")
    assert max(abs(a - b) for a, b in zip(third.tobytes(), single.tobytes(), strict=True)) <= 1


def test_a_picture_has_the_asked_size_and_knows_how_it_was_made(atelier: Atelier) -> None:
    inputs = {"prompt": "一个胸有成竹的男人", "width": 72, "height": 64, "steps": 4, "seed": 1, "scheduler": "Euler a"}
    made = picture(atelier, atelier.run(inputs).json()["data"]["outputs"]["files"][0])
    assert made.size == (72, 64)
    assert made.info["parameters"].startswith("一个胸有成竹的男人\n")
    assert "Steps: 4, Sampler: Euler a" in made.info["parameters"]
    assert json.loads(made.info["atelier"])["seed"] == 1


def test_progress_is_told_between_start_and_end_of_the_node(atelier: Atelier) -> None:
    inputs = {"prompt": "a blue ring on a yellow background", "steps": 60, "n": 4}
    told = events(atelier.run(inputs, response_mode="streaming").text)
    names = [(e["event"], e["data"].get("node_id")) for e in told]
    ticks = [e["data"] for e in told if e["event"] == "node_progress"]
    assert ticks
    assert ticks == sorted(ticks, key=lambda tick: tick["step"])
    assert all(tick["steps"] == 60 and {"step", "steps", "eta_s"} <= set(tick) for tick in ticks)
    first, last = names.index(("node_progress", "paint")), names.index(("node_finished", "paint"))
    assert names.index(("node_started", "paint")) < first < last
    finished = told[-1]["data"]
    assert told[-1]["event"] == "workflow_finished"
    assert len(finished["files"]) == len(finished["outputs"]["files"]) == 4


def test_the_stream_shows_the_picture_as_a_text_chunk(atelier: Atelier) -> None:
    told = events(atelier.run({"prompt": "a black cross", "steps": 4}, response_mode="streaming").text)
    (chunk,) = [e["data"] for e in told if e["event"] == "text_chunk"]
    assert chunk["from_variable_selector"] == ["paint", "files"]
    assert "](/files/tools/" in chunk["text"]


def test_a_client_that_leaves_changes_nothing(atelier: Atelier) -> None:
    body = {"inputs": {"prompt": "a white heart", "steps": 40}, "response_mode": "streaming", "user": "u"}
    with atelier.http.stream("POST", "/v1/workflows/run", json=body) as stream:
        run_id = stream.headers["x-workflow-run-id"]
    assert atelier.until_ended(run_id)["status"] == "succeeded"


def test_a_stop_reaches_a_picture_that_is_being_painted(atelier: Atelier) -> None:
    body = {"inputs": {"prompt": "a big star", "steps": 150, "width": 512, "height": 512}, "user": "u"}
    with atelier.http.stream("POST", "/v1/workflows/run", json=body | {"response_mode": "streaming"}) as stream:
        lines = stream.iter_lines()
        next(line for line in lines if "node_progress" in line)
        atelier.http.post(f"/v1/workflows/tasks/{stream.headers['x-task-id']}/stop", json={"user": "u"})
        told = events("\n".join(lines))
    assert told[-1]["data"]["status"] == "stopped"
    assert max(event["data"].get("step", 0) for event in told) < 150
    # The worker is free again.
    assert atelier.run({"prompt": "a small ring", "steps": 2}).json()["data"]["status"] == "succeeded"


def test_a_workflow_branches_and_paints_its_template(atelier: Atelier, workflows: Path) -> None:
    key = atelier.app_key(workflows / "style-preset.yml")
    data = atelier.run({"prompt": "a red square", "style": "drawing"}, key).json()["data"]
    assert data["status"] == "succeeded"
    assert "a red square" in data["outputs"]["prompt"]
    assert len(data["outputs"]["files"]) == 1


def test_an_artifact_is_what_its_url_and_its_permalink_give(atelier: Atelier) -> None:
    inputs = {"prompt": "a red ring", "steps": 2, "seed": 40, "n": 2, "width": 72, "height": 64}
    run = including(atelier, atelier.run(inputs).json()["workflow_run_id"])
    assert [(made["seed"], made["width"], made["height"]) for made in run["artifacts"]] == [(40, 72, 64), (41, 72, 64)]
    for made, file in zip(run["artifacts"], run["outputs"]["files"], strict=True):
        assert list(made) == ARTIFACT_FIELDS
        assert (made["id"], made["node_id"]) == (file["related_id"], "paint")
        assert made["url"].startswith(f"/files/tools/{made['id']}.png?timestamp=")
        assert made["expires_at"] == int(made["url"].split("timestamp=")[1].split("&")[0]) + 300
        content = atelier.http.get(made["url"], headers={"authorization": ""}).content
        assert (len(content), hashlib.sha256(content).hexdigest()) == (made["size"], made["sha256"])
        sent_on = atelier.http.get(made["permalink"])
        assert (sent_on.status_code, sent_on.headers["cache-control"]) == (302, "no-store")
        assert atelier.http.get(sent_on.headers["location"], headers={"authorization": ""}).content == content


def test_a_checkpoint_is_loaded_once_and_the_run_that_waited_for_it_says_so(atelier: Atelier) -> None:
    shutil.copytree(SHIPPED_FOLDER / "atelier-shapes", atelier.checkpoints_dir / "another", dirs_exist_ok=True)
    inputs = {"prompt": "a red ring", "steps": 1, "model_name": "another"}
    first, second = (paint_of(including(atelier, atelier.run(inputs).json()["workflow_run_id"])) for _ in range(2))
    assert first["checkpoint"] == second["checkpoint"] == "another"
    assert first["timings"]["load_s"] > 0
    assert second["timings"]["load_s"] == 0
    assert second["timings"]["run_s"] > 0
    assert second["timings"]["upload_s"] > 0


class TestSignedUrls:
    """`/files/tools`: the URL is the key, for five minutes."""

    def test_the_bytes_are_those_that_were_stored(self, atelier: Atelier, red_circle: dict[str, Any]) -> None:
        file = red_circle["data"]["outputs"]["files"][0]
        answer = atelier.http.get(file["url"])
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
        assert len(answer.content) == file["size"]
        attached = atelier.http.get(file["url"] + "&as_attachment=true")
        assert attached.headers["content-disposition"].endswith(file["filename"])

    def test_a_padded_or_escaped_signature_is_the_same(self, atelier: Atelier, red_circle: dict[str, Any]) -> None:
        url = red_circle["data"]["outputs"]["files"][0]["url"]
        assert atelier.http.get(url.replace("=", "%3D").replace("%3D", "=", 3)).status_code == 200

    def test_the_signature_is_difys(self, atelier: Atelier, red_circle: dict[str, Any]) -> None:
        file_id = red_circle["data"]["outputs"]["files"][0]["related_id"]
        assert atelier.http.get(self.signed(atelier, file_id, int(time.time()))).status_code == 200

    def test_an_expired_url_is_forbidden_and_one_from_the_future_too(
        self, atelier: Atelier, red_circle: dict[str, Any]
    ) -> None:
        file_id = red_circle["data"]["outputs"]["files"][0]["related_id"]
        for seconds in (-301, 3600):
            answer = atelier.http.get(self.signed(atelier, file_id, int(time.time()) + seconds))
            assert (answer.status_code, answer.json()["message"]) == (403, "Invalid request.")

    @pytest.mark.parametrize("part", ["timestamp", "nonce", "sign", "id"])
    def test_a_changed_url_is_forbidden(self, atelier: Atelier, red_circle: dict[str, Any], part: str) -> None:
        url = red_circle["data"]["outputs"]["files"][0]["url"]
        at = url.index("/tools/") + 8 if part == "id" else url.index(f"{part}=") + len(part) + 2
        changed = url[:at] + ("0" if url[at] != "0" else "1") + url[at + 1 :]
        assert atelier.http.get(changed).status_code == 403

    @pytest.mark.parametrize("part", ["timestamp", "nonce", "sign"])
    def test_a_missing_part_is_named(self, atelier: Atelier, red_circle: dict[str, Any], part: str) -> None:
        path, _, query = red_circle["data"]["outputs"]["files"][0]["url"].partition("?")
        rest = "&".join(pair for pair in query.split("&") if not pair.startswith(f"{part}="))
        answer = atelier.http.get(f"{path}?{rest}")
        assert (answer.status_code, answer.json()["params"]) == (400, part)

    def test_a_timestamp_that_is_none_is_a_bad_parameter(self, atelier: Atelier, red_circle: dict[str, Any]) -> None:
        path = red_circle["data"]["outputs"]["files"][0]["url"].partition("?")[0]
        answer = atelier.http.get(f"{path}?timestamp=soon&nonce=1&sign=2")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_param")

    def test_another_extension_or_no_uuid_is_not_found(self, atelier: Atelier, red_circle: dict[str, Any]) -> None:
        url = red_circle["data"]["outputs"]["files"][0]["url"]
        assert atelier.http.get(url.replace(".png", ".html")).status_code == 404
        assert atelier.http.get("/files/tools/abc.png?timestamp=1&nonce=1&sign=1").status_code == 404

    def test_reading_the_run_again_signs_anew(self, atelier: Atelier, red_circle: dict[str, Any]) -> None:
        detail = atelier.detail(red_circle["workflow_run_id"])
        first, fresh = red_circle["data"]["outputs"]["files"][0], detail["outputs"]["files"][0]
        assert fresh["related_id"] == first["related_id"]
        assert fresh["url"] != first["url"]
        assert atelier.http.get(fresh["url"]).status_code == 200

    @staticmethod
    def signed(atelier: Atelier, file_id: str, timestamp: int) -> str:
        secret = (atelier.data_dir / "secret").read_bytes()
        message = f"file-preview|{file_id}|{timestamp}|abc".encode()
        sign = base64.urlsafe_b64encode(hmac.digest(secret, message, "sha256")).decode()
        return f"/files/tools/{file_id}.png?timestamp={timestamp}&nonce=abc&sign={sign}"


def test_a_diffusers_folder_is_a_checkpoint_too(atelier: Atelier) -> None:
    shutil.copytree(SHIPPED_FOLDER / "atelier-shapes", atelier.checkpoints_dir / "my folder", dirs_exist_ok=True)
    answer = atelier.run({"prompt": "a red ring", "steps": 3, "model_name": "my folder"})
    assert answer.json()["data"]["status"] == "succeeded"


def test_a_checkpoint_that_pytorch_saved_paints_what_its_safetensors_paint(atelier: Atelier, tmp_path: Path) -> None:
    export_single_file(SHIPPED_FOLDER / "atelier-shapes", tmp_path / "new.safetensors")
    torch.save({"state_dict": load_file(tmp_path / "new.safetensors")}, atelier.checkpoints_dir / "old.ckpt")
    pictures = []
    for name in ("old", "atelier-shapes"):
        answer = atelier.run({"prompt": "a red ring", "steps": 3, "seed": 3, "model_name": name}).json()
        pictures.append(picture(atelier, answer["data"]["outputs"]["files"][0]).tobytes())
    assert pictures[0] == pictures[1]
    assert [path.stem[:4] for path in (atelier.data_dir / "converted").glob("*.safetensors")] == ["old-"]


def test_a_pickle_that_would_run_something_is_refused_before_there_is_a_run(atelier: Atelier) -> None:
    (atelier.checkpoints_dir / "nice.ckpt").write_bytes(b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R.")
    answer = atelier.run({"prompt": "a red ring", "model_name": "nice"})
    assert answer.status_code == 400
    assert "nice.ckpt wants 'posix.system' to be run" in answer.json()["message"]


def test_the_command_saves_each_picture_and_says_where(atelier: Atelier, tmp_path: Path) -> None:
    words = ("run", "prompt=a red circle", "n=2", "steps=2", "--url", atelier.url, "--key", atelier.key)
    told = atelier.cli(*words, "--out", str(tmp_path)).splitlines()
    assert sorted(told[-2:]) == sorted(map(str, tmp_path.glob("*.png")))


def test_the_quickstarts_curl_line_works(atelier: Atelier) -> None:
    words = shlex.split(curl(atelier.url, atelier.key, 'it\'s a "red" circle'))
    done = subprocess.run([*words, "-s"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["data"]["status"] == "succeeded"
