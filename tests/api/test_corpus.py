"""Documents in the shapes that exports have, imported as they are and run to their end.

`tests/documents/cases.yml` says what each is asked and what comes of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.graph.document import parse_document
from tests.llm_server import llm_server
from tests.servers import ROOT, Atelier, run_command, running
from tests.sites import Page, site

DOCUMENTS = ROOT / "tests" / "documents"
FILES = DOCUMENTS / "files"
ALL = sorted(DOCUMENTS.glob("[!c]*.yml"))
CASES: list[dict[str, Any]] = yaml.safe_load((DOCUMENTS / "cases.yml").read_text())
PAGES = {
    "/weather": Page(b'{"temperature": 21}', 200, {"Content-Type": "application/json"}),
    "/orders": Page(b'{"id": 7}', 201, {"Content-Type": "application/json"}),
    "/page.txt": Page((FILES / "page.txt").read_bytes()),
    "/picture.png": Page((FILES / "dot.png").read_bytes(), 200, {"Content-Type": "image/png"}),
}
MODELS = {"gpt-4o-structured": "json", "extractor": "json", "classifier": "classify"}
TYPES = {".txt": "text/plain", ".md": "text/markdown", ".csv": "text/csv", ".png": "image/png"}


class House:
    """A server with a worker, a language model and a site to ask; the documents' apps are made when they are needed."""

    def __init__(self, server: Atelier, site_url: str) -> None:
        self.server = server
        self._site_url = site_url
        self.keys: dict[str, str] = {}
        self.printed = self._import([path for path in ALL if path.name not in self._with_environment()])

    @staticmethod
    def _with_environment() -> set[str]:
        return {case["document"] for case in CASES if "env" in case}

    def _import(self, paths: list[Path], *words: str) -> str:
        """What the command prints: a document that can't be run is told its problems, and the others are published."""
        done = run_command(self.server.env, "workflows", "import", *map(str, paths), *words)
        assert not done.stderr, done.stderr
        for name, key in re.findall(r"^The app (\S+) runs .*\n(?:.*warning: .*\n)*Key: (\S+)$", done.stdout, re.M):
            self.keys[name] = key
        return done.stdout

    def key(self, case: dict[str, Any]) -> str:
        path = DOCUMENTS / case["document"]
        if path.stem not in self.keys and "env" in case:
            given = [f"--env={name}={value.replace('SITE', self._site_url)}" for name, value in case["env"].items()]
            self.printed += self._import([path], *given)
        assert path.stem in self.keys, self._said_of(path)
        return self.keys[path.stem]

    def _said_of(self, path: Path) -> str:
        """Why the document was not published."""
        return self.printed[self.printed.find(f"{path} can't be published") :].split(".yml can't", 2)[1]

    def inputs(self, case: dict[str, Any], key: str) -> dict[str, Any]:
        """The case's own, and its files as uploads."""
        files = {
            name: [self._upload(each, key) for each in given] if isinstance(given, list) else self._upload(given, key)
            for name, given in case.get("files", {}).items()
        }
        given = json.loads(json.dumps(case.get("inputs", {})).replace("SITE", self._site_url))
        return given | files

    def _upload(self, name: str, key: str) -> dict[str, str]:
        path = FILES / name
        answer = self.server.http.post(
            "/v1/files/upload",
            files={"file": (name, path.read_bytes(), TYPES[path.suffix])},
            data={"user": "abc-123"},
            headers=self.server.bearer(key),
        )
        kind = "image" if path.suffix == ".png" else "document"
        return {"type": kind, "transfer_method": "local_file", "upload_file_id": answer.json()["id"]}

    def fill(self, run: dict[str, Any], form: dict[str, Any], key: str) -> dict[str, Any]:
        """The run's end, once its form has been filled in."""
        headers = self.server.bearer(key)
        path = f"/v1/form/human_input/{run['reasons'][0]['form_token']}"
        answer = self.server.http.post(path, json=form | {"user": "abc-123"}, headers=headers)
        assert answer.status_code == 200, answer.text

        def ended() -> Any:
            detail = self.server.http.get(f"/v1/workflows/run/{run['id']}", headers=headers).json()
            return detail if detail["finished_at"] else None

        return dict(self.server.until("the run has ended", ended))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with llm_server() as llm, site(PAGES) as target:
        endpoints = json.loads(llm.endpoints(models=MODELS))
        settings = {"llm_endpoints": json.dumps(endpoints), "outbound_allow": "127.0.0.1", "retry_delay_s": "0"}
        with running(tmp_path_factory.mktemp("corpus"), worker_module="tests.chaos.painter", **settings) as server:
            server.until_ready()
            yield House(server, target.url("").rstrip("/"))


def test_every_document_is_run() -> None:
    assert {case["document"] for case in CASES} == {path.name for path in ALL}
    assert len(ALL) >= 25
    versions = {parse_document(path.read_text()).version for path in ALL}
    assert {
        "0.1.0",
        "0.1.2",
        "0.1.3",
        "0.1.4",
        "0.1.5",
        "0.2.0",
        "0.3.0",
        "0.3.1",
        "0.4.0",
        "0.5.0",
        "0.6.0",
    } <= versions


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["document"]))
def test_a_document_runs_as_it_is(house: House, case: dict[str, Any]) -> None:
    key = house.key(case)
    answer = house.server.run(house.inputs(case, key), key)
    assert answer.status_code == 200, answer.text
    run = answer.json()["data"]
    if "form" in case:
        assert run["status"] == "paused"
        run = house.fill(run, case["form"], key)
    assert run["status"] == case.get("status", "succeeded"), run["error"]
    assert case.get("error", "") in (run["error"] or "")
    outputs = run["outputs"]
    if "outputs" in case:
        assert outputs == case["outputs"]
    for name, text in case.get("includes", {}).items():
        assert text in outputs[name]
    for name, count in case.get("pictures", {}).items():
        pictures = outputs[name] if isinstance(outputs[name], list) else [outputs[name]]
        assert [picture["mime_type"] for picture in pictures] == ["image/png"] * count
    for counted in ("total_steps", "total_tokens"):
        assert run[counted] == case.get(counted, run[counted])


def test_a_round_trip_loses_nothing(house: House, tmp_path: Path) -> None:
    for name in ("0.1.4-comfyui-workflow", "0.6.0-environment"):
        house.key(next(case for case in CASES if case["document"] == f"{name}.yml"))
        house.server.cli("workflows", "export", name, "--out", str(tmp_path / name))
        assert (tmp_path / name).read_bytes() == (DOCUMENTS / f"{name}.yml").read_bytes()
