"""From SQLite to PostgreSQL with everything: what the old server told, the new one tells too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.test_command import atelier
from tests.databases import PostgresDatabases
from tests.s3 import MotoServer
from tests.servers import ROOT, Atelier, running


@pytest.fixture
def s3() -> Iterator[MotoServer]:
    server = MotoServer()
    server.start()
    yield server
    server.stop()


def told(server: Atelier, key: str, run_ids: list[str]) -> list[Any]:
    """The app's log and the details of its runs, without the signatures of their files' URLs."""
    headers = server.bearer(key)
    details = [server.http.get(f"/v1/workflows/run/{run_id}", headers=headers).json() for run_id in run_ids]
    for detail in details:
        for file in detail["outputs"].get("files", ()):
            file["url"] = file["url"].partition("?")[0]
    return [server.http.get("/v1/workflows/logs", headers=headers).json(), *details]


def files(server: Atelier, run_id: str) -> list[bytes]:
    answers = [server.http.get(file["url"]) for file in server.detail(run_id)["outputs"]["files"]]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    return [answer.content for answer in answers]


def test_runs_and_pictures_move_to_postgresql_and_a_bucket(
    tmp_path: Path, postgres: PostgresDatabases, s3: MotoServer
) -> None:
    with running(tmp_path / "data", worker_module="tests.chaos.painter") as old:
        old.until_ready()
        key, echo_key = old.key, old.app_key(ROOT / "workflows" / "echo.yml")
        echoes = [old.run({"text": f"number {i}"}, echo_key).json()["workflow_run_id"] for i in range(3)]
        painted = old.run({"prompt": "a red circle", "steps": 2}).json()["workflow_run_id"]
        before = told(old, key, [painted]), told(old, echo_key, echoes), files(old, painted)
    url = postgres.new()
    done = atelier(tmp_path, "db", "copy", url, **s3.env)
    assert done.returncode == 0, done.stderr
    assert "Copied, and counted on both sides." in done.stdout
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "key").write_text(key)
    with running(tmp_path / "new", worker="none", env_too=s3.env | {"DATABASE_URL": url}) as new:
        assert (told(new, key, [painted]), told(new, echo_key, echoes), files(new, painted)) == before
        assert new.run({"text": "again"}, echo_key).json()["data"]["outputs"] == {"text": "again"}


def test_a_running_server_is_not_copied(web: Atelier, postgres: PostgresDatabases) -> None:
    url, database = postgres.new(), f"sqlite:///{web.data_dir}/atelier.db"
    for words in ([database, url], [url]):
        done = atelier(web.data_dir, "db", "copy", *words, ATELIER_DATA_DIR=str(web.data_dir))
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert f"Another Atelier server uses {web.data_dir}. Stop it" in done.stderr


def test_without_a_bucket_it_says_where_the_pictures_are(tmp_path: Path, postgres: PostgresDatabases) -> None:
    assert atelier(tmp_path, "db", "upgrade").returncode == 0
    done = atelier(tmp_path, "db", "copy", f"sqlite:///{tmp_path}/data/atelier.db", postgres.new())
    assert done.returncode == 0, done.stderr
    assert f"the pictures stay in {tmp_path}/data/artifacts" in done.stdout
    assert "rows" in done.stdout
