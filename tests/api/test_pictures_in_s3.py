"""Pictures whose bytes lie in a bucket, through the whole server."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.artifacts.objects import name_of
from tests.flaky import Trouble, proxy_before
from tests.s3 import BUCKET, MotoServer
from tests.servers import Atelier, running

PAINTER = {"worker_module": "tests.chaos.painter"}


@pytest.fixture
def s3() -> Iterator[MotoServer]:
    server = MotoServer()
    server.start()
    yield server
    server.stop()


def rows(server: Atelier, query: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(server.data_dir / "atelier.db")) as db:
        return db.execute(query).fetchall()


def test_a_picture_lies_in_the_bucket_and_comes_from_there(tmp_path: Path, s3: MotoServer) -> None:
    with (
        proxy_before(s3.port) as proxy,
        running(tmp_path, env_too=s3.env | {"S3_ENDPOINT_URL": proxy.url}, **PAINTER) as atelier,
    ):
        atelier.until_ready()
        (file,) = atelier.run({"prompt": "a red circle", "steps": 4, "seed": 5}).json()["data"]["outputs"]["files"]
        (row,) = rows(atelier, "SELECT sha256, size FROM artifacts")
        content = atelier.http.get(file["url"]).content
        assert (hashlib.sha256(content).hexdigest(), len(content)) == row
        (stored,) = s3.client().list_objects_v2(Bucket=BUCKET)["Contents"]
        assert stored["Key"] == f"artifacts/{name_of(str(row[0]))}"
        assert not atelier.data_dir.joinpath("artifacts").exists()

        proxy.always["GET"], proxy.slow_s = Trouble.SLOW, 2.0
        with ThreadPoolExecutor(1) as threads:
            slow = threads.submit(atelier.http.get, file["url"])
            assert atelier.http.get("/livez").status_code == 200
            assert not slow.done(), "a slow bucket held up the server"
            assert slow.result().content == content

        proxy.always["GET"] = Trouble.ERROR
        refused = atelier.http.get(file["url"])
        assert (refused.status_code, refused.json()["code"]) == (503, "service_unavailable")
        assert refused.headers["retry-after"] == "1"

        s3.client().delete_object(Bucket=BUCKET, Key=stored["Key"])
        proxy.always.clear()
        assert atelier.http.get(file["url"]).status_code == 404


def test_a_bucket_that_fails_for_a_while_costs_an_attempt_and_no_run(tmp_path: Path, s3: MotoServer) -> None:
    with (
        proxy_before(s3.port) as proxy,
        running(tmp_path, env_too=s3.env | {"S3_ENDPOINT_URL": proxy.url}, **PAINTER) as atelier,
    ):
        atelier.until_ready()
        proxy.troubles["PUT"] = [Trouble.ERROR] * 4
        run = atelier.run({"prompt": "a red circle", "steps": 2}).json()["data"]
        assert run["status"] == "succeeded", run
        assert atelier.http.get(run["outputs"]["files"][0]["url"]).status_code == 200


def test_a_bucket_that_keeps_failing_ends_the_run_with_its_sentence(tmp_path: Path, s3: MotoServer) -> None:
    env = s3.env | {"S3_BUCKET": "missing"}
    with running(tmp_path, env_too=env, **PAINTER, max_attempts="2", retry_delay_s="0.1") as atelier:
        atelier.until_ready()
        run = atelier.run({"prompt": "a red circle", "steps": 2}).json()["data"]
        assert run["status"] == "failed"
        assert "The bucket missing at" in run["error"]
        assert rows(atelier, "SELECT id FROM artifacts") == []
