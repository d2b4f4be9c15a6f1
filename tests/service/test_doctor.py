"""`atelier doctor` finds what is wrong with an installation, and says what to mend."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.cluster.daemon import free_port
from app.cluster.doctor import Finding, examine
from app.cluster.servers import PostgreSQL, Redis
from app.settings import load_settings
from tests.databases import PostgresDatabases
from tests.servers import ROOT, Atelier


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


def findings(folder: Path, **settings: str) -> dict[str, Finding]:
    """The worst finding of each subject."""
    found = examine(load_settings(**{"data_dir": folder / "data", "checkpoints_dir": folder, **settings}))
    return {finding.subject: finding for finding in sorted(found, key=lambda finding: "✓!✗".index(finding.mark))}


def marks(found: dict[str, Finding]) -> str:
    return "".join(finding.mark for finding in found.values())


def doctor(**env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app", "doctor"]
    return subprocess.run(command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, timeout=60)


def test_a_new_folder_needs_no_mending(tmp_path: Path) -> None:
    done = doctor(ATELIER_DATA_DIR=str(tmp_path))
    assert done.returncode == 0, done.stdout
    assert "✗" not in done.stdout
    assert list(tmp_path.rglob(".probe*")) == []


def test_the_production_form_needs_no_mending(tmp_path: Path, postgres: PostgresDatabases, redis: Redis) -> None:
    found = findings(tmp_path, database_url=postgres.new(), redis_url=redis.url, secret_key="s")
    assert set(marks(found)) == {"✓"}, found
    assert found["database"].found.startswith("PostgreSQL 1")
    assert "apart" in found["clocks"].found


def test_a_wrong_setting_is_a_finding(tmp_path: Path) -> None:
    done = doctor(ATELIER_DATA_DIR=str(tmp_path), ATELIER_PORT="many")
    assert done.returncode == 1
    assert "✗  settings  ATELIER_PORT: " in done.stdout
    assert done.stderr == ""


def test_a_folder_that_cant_be_written_is_found() -> None:
    found = findings(Path("/proc/nowhere"))
    assert found["data folder"].mark == found["pictures"].mark == "✗"
    assert "ATELIER_DATA_DIR" in found["data folder"].mend


def test_a_database_that_is_down_is_found_and_its_password_kept(tmp_path: Path) -> None:
    url = f"postgresql://me:quiet@127.0.0.1:{free_port()}/atelier"
    done = doctor(ATELIER_DATA_DIR=str(tmp_path), DATABASE_URL=url)
    assert done.returncode == 1
    assert "Start the database, or mend DATABASE_URL." in done.stdout
    assert "quiet" not in done.stdout + done.stderr


def test_tables_that_are_missing_or_old_are_found(tmp_path: Path, postgres: PostgresDatabases) -> None:
    url = postgres.new()
    with psycopg.connect(url) as db:
        db.execute("UPDATE alembic_version SET version_num = '20200101_old'")
    assert findings(tmp_path, database_url=url)["tables"].mend == "Run `atelier db upgrade`."
    with psycopg.connect(url) as db:
        db.execute("DROP TABLE alembic_version")
    assert "nothing yet" in findings(tmp_path, database_url=url)["tables"].found


def test_a_database_whose_clock_is_wrong_gets_a_warning(tmp_path: Path) -> None:
    server = PostgreSQL(tmp_path / "pg")
    server.prefix = ["faketime", "-f", "+1h"]
    server.start()
    try:
        clocks = findings(tmp_path, database_url=server.url)["clocks"]
    finally:
        server.stop()
    apart = re.fullmatch(r"database and machine are (\d+\.\d) s apart", clocks.found)
    assert clocks.mark == "!"
    assert apart
    assert abs(float(apart[1]) - 3600) < 60  # a busy machine takes its time between the two


def test_redis_that_is_down_is_found(tmp_path: Path) -> None:
    found = findings(tmp_path, redis_url=f"redis://127.0.0.1:{free_port()}/0", secret_key="s")
    assert found["redis"].mark == "✗"
    assert "Start Redis, or mend REDIS_URL." in found["redis"].mend


@pytest.mark.parametrize(
    ("words", "mark", "says"),
    [
        (["--maxmemory", "1"], "✗", "used memory > 'maxmemory'"),
        (["--replicaof", "127.0.0.1 1"], "✗", "read only replica"),
        (["--maxmemory-policy", "allkeys-lru"], "!", "allkeys-lru"),
    ],
)
def test_redis_that_keeps_nothing_is_found(tmp_path: Path, words: list[str], mark: str, says: str) -> None:
    server = Redis(tmp_path / "redis", settings=words)
    server.start()
    try:
        redis = findings(tmp_path, redis_url=server.url, secret_key="s")["redis"]
    finally:
        server.stop()
    assert redis.mark == mark
    assert says in redis.found


def test_several_processes_need_a_secret_key_and_redis(tmp_path: Path, redis: Redis) -> None:
    assert "ATELIER_SECRET_KEY" in findings(tmp_path, redis_url=redis.url)["secret key"].mend
    assert findings(tmp_path)["secret key"].mark == "✓"
    down = f"postgresql://127.0.0.1:{free_port()}/atelier"
    assert "Set it" in findings(tmp_path, database_url=down)["redis"].mend


def test_a_bucket_that_cant_be_reached_is_found(tmp_path: Path) -> None:
    found = findings(
        tmp_path,
        s3_bucket="pictures",
        s3_endpoint_url=f"http://127.0.0.1:{free_port()}",
        s3_access_key_id="a",
        s3_secret_access_key="quiet",
    )
    assert found["pictures"].mark == "✗"
    assert "quiet" not in found["pictures"].found


def test_checkpoints_that_cant_be_used_are_found(tmp_path: Path) -> None:
    (tmp_path / "page.safetensors").write_text("<html>not found</html>")
    found = findings(tmp_path)["checkpoints"]
    assert (found.mark, found.found.partition(":")[0]) == ("!", "page")
    (tmp_path / "loras").mkdir()
    (tmp_path / "page.safetensors").rename(tmp_path / "loras" / "page.safetensors")
    assert findings(tmp_path)["checkpoints"].found.startswith("page: page.safetensors is a web page")


@pytest.mark.parametrize(
    "settings",
    [
        {"default_checkpoint": "nosuch"},
        {"checkpoint_names": {"*": "nosuch"}},
        {"checkpoint_aliases": {"dreams": "nosuch"}},
        {"pinned_checkpoints": ("nosuch",)},
        {"default_vae": {"sd1": "nosuch"}},
    ],
)
def test_names_in_the_settings_that_lead_nowhere_are_found(settings: dict[str, Any], tmp_path: Path) -> None:
    missing = findings(tmp_path, **settings)["checkpoints"]
    assert missing.mark == "✗"
    assert "'nosuch'" in missing.found


def test_the_public_url_must_lead_to_atelier(tmp_path: Path, web: Atelier) -> None:
    assert findings(tmp_path, public_base_url=web.url)["public URL"].mark == "✓"
    assert findings(tmp_path, public_base_url=f"http://127.0.0.1:{free_port()}")["public URL"].mark == "!"
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.handle_request).start()
        found = findings(tmp_path, public_base_url=f"http://127.0.0.1:{other.server_port}")["public URL"]
    assert (found.mark, "not answered by Atelier" in found.found) == ("✗", True)
