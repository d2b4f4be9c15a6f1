"""A worker that dies in the middle of an iteration: one picture is painted again, the others are kept."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from tests.servers import running
from tests.unit.drawing import draw, end, field, inside, iteration, start, tool

PAINTER = "tests.chaos.painter"
SIZE = {"width": 128, "height": 128, "seed": 3}


def each_painted() -> str:
    paint = tool("paint", {**SIZE, "steps": 40}, prompt="{{#each.item#}}")
    each = inside(iteration("each", ["start", "given", "prompts"], ["paint", "files"]), paint)
    nodes = [start(field("given", "json_object")), *each, end(files=["each", "output"])]
    return draw(nodes, ["start > each", "eachstart > paint", "each > end"])


def test_a_killed_worker_repeats_one_round(tmp_path: Path) -> None:
    document = tmp_path / "each.yml"
    document.write_text(each_painted())
    with running(tmp_path, worker_module=PAINTER) as server:
        server.until_ready()
        key = server.app_key(document)
        prompts = ["a red ring", "a big blue star", "a green dot"]
        body = {"inputs": {"given": {"prompts": prompts}}, "response_mode": "streaming", "user": "abc-123"}
        begun = 0
        with server.http.stream("POST", "/v1/workflows/run", json=body, headers=server.bearer(key)) as stream:
            for line in stream.iter_lines():
                told = json.loads(line[6:]) if line.startswith("data: ") else {}
                begun += told.get("event") == "iteration_next"
                if begun == 2 and told.get("event") == "node_progress":
                    os.kill(server.worker_pid(PAINTER) or 0, signal.SIGKILL)
                    begun += 1
        path = f"/v1/workflows/run/{stream.headers['x-workflow-run-id']}?include=steps"
        run = server.http.get(path, headers=server.bearer(key)).json()
        painted = [step for step in run["steps"] if step["node_id"] == "paint"]
        assert (run["status"], len(run["outputs"]["files"])) == ("succeeded", 3)
        assert [step["attempts"] for step in painted] == [1, 2, 1]
