"""The two engines side by side: the same graph and inputs, and what each says came of them, in one form.

`Told`: `status`, `outputs` and `error` of the run, what was `said` as (selector, text), and of each node that ran its
`status`, `outputs`, `handle` and `error`; or `refused`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.domain.event import EventKind
from app.domain.run import Run, RunStatus
from app.errors import DocumentInvalid
from app.graph.graph import load_graph
from app.graph.markdown import markdown
from app.runs.movement import Movement, Settled

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "build/graphon/bin/python"
"""An interpreter that has graphon: `make test` makes it where there is a Python 3.12 or newer."""

RECORDED = Path(__file__).with_name("answers.jsonl.gz")

Asked = dict[str, Any]
Told = dict[str, Any]


class Graphon:
    """graphon in a child process; a batch of runs takes about as long as one of them."""

    def __init__(self) -> None:
        command = [str(PYTHON), str(ROOT / "tests/oracle/graphon_side.py")]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_clean()
        )

    def run(self, batch: Iterable[Asked]) -> list[Told]:
        return list(self._ask(list(batch)))

    def seconds(self, asked: Asked) -> tuple[float, float]:
        """What one run takes, and how much of it is CPU time."""
        told = self.run([asked | {"timed": True}])[0]
        return float(told["seconds"]), float(told["cpu_seconds"])

    def _ask(self, batch: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(batch) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "graphon has gone"
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@contextmanager
def graphon() -> Iterator[Graphon]:
    child = Graphon()
    try:
        yield child
    finally:
        child.close()


def _clean() -> dict[str, str]:
    """This environment's packages are not the child's."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def atelier(asked: Asked) -> Told:
    """One run in memory, as the server moves it on before anything is written."""
    try:
        graph = load_graph(json.dumps(document(asked["graph"]), ensure_ascii=False))
    except DocumentInvalid as error:
        return {"refused": str(error)}
    movement = Movement(graph, new_run(asked["inputs"]), (), lambda call: Settled(dict(call.inputs), None))
    movement.begin()
    assert not movement.new_work, "nothing here needs a worker"
    run = movement.run
    steps = [entry.step for entry in movement.new_entries if entry.step is not None]
    ended = {step.node_id: step for step in steps if step.finished_at is not None and not step.scope}
    chunks = [entry.payload for entry in movement.new_entries if entry.kind is EventKind.TEXT_CHUNK]
    said = [[list(chunk["selector"]), markdown(chunk["value"], lambda file: "")] for chunk in chunks if chunk]
    return {
        "status": str(run.status),
        "outputs": run.outputs,
        "error": run.error,
        "said": [chunk for chunk in said if chunk[1]],
        "nodes": {
            step.node_id: {
                "status": str(step.status),
                "outputs": dict(step.outputs or {}),
                "handle": step.handle or "source",
                "error": step.error,
            }
            for step in ended.values()
        },
    }


def document(graph: dict[str, Any]) -> dict[str, Any]:
    """The whole document around a graph."""
    app = {"name": "Drawn", "mode": "workflow"}
    return {"version": "0.6.0", "kind": "app", "app": app, "workflow": {"graph": graph}}


def new_run(inputs: dict[str, Any]) -> Run:
    """A run of nobody's."""
    return Run("r", "t", "a", "w", "user", RunStatus.RUNNING, inputs, {}, None, 0, 0, 0, 1.0)
