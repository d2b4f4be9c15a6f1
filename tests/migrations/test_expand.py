"""Expand, then programs, then contract: today's server on tomorrow's tables, and never on yesterday's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic import command

from app.settings import Settings, load_settings
from app.store import accounts
from app.store.migrate import MIGRATIONS, _alembic, current_version, differences
from app.store.schema import SCHEMA_HEAD
from app.store.store import Store
from tests.api.test_command import atelier
from tests.databases import PostgresDatabases
from tests.servers import ROOT, Atelier, running

TOMORROW = f'''"""What the next version will need (expand)."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "29990101_future", "{SCHEMA_HEAD}"


def upgrade() -> None:
    op.add_column("runs", sa.Column("mood", sa.Text(), nullable=True))
    op.add_column("steps", sa.Column("weight", sa.Integer(), nullable=False, server_default="1"))
    op.create_table("moods", sa.Column("id", sa.String(length=36), primary_key=True))
    op.create_index("ix_runs_mood", "runs", ["mood"])
'''


def migrate(settings: Settings, revision: str, folder: Path) -> None:
    """Runs the migrations up to the revision; those in the folder come after ours."""
    with _alembic(settings) as (config, _):
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", f"{MIGRATIONS / 'versions'}\n{folder}")
        command.upgrade(config, revision)


def echo(server: Atelier, key: str, text: str) -> str:
    """The id of a run that has said the text."""
    answer = server.run({"text": text}, key).json()
    assert answer["data"]["outputs"] == {"text": text}
    return str(answer["workflow_run_id"])


def queued(server: Atelier) -> dict[str, Any]:
    """A run whose step waits for a worker."""
    body = {"inputs": {"prompt": "a red circle"}, "response_mode": "streaming", "user": "abc-123"}
    with server.http.stream("POST", "/v1/workflows/run", json=body) as stream:
        return server.detail(stream.headers["x-workflow-run-id"])


def test_todays_server_works_on_tomorrows_tables(tmp_path: Path, database_url: str) -> None:
    settings = load_settings(data_dir=tmp_path, database_url=database_url)
    (tmp_path / "29990101_future.py").write_text(TOMORROW)
    with running(tmp_path, worker="none", env_too={"DATABASE_URL": database_url}) as server:
        key = server.app_key(ROOT / "workflows" / "echo.yml")
        headers = server.bearer(key)
        old = [echo(server, key, f"old {i}") for i in range(10)]
        before = server.http.get("/v1/workflows/logs", headers=headers).json()
        migrate(settings, "29990101_future", tmp_path)
        assert server.http.get("/v1/workflows/logs", headers=headers).json() == before
        echo(server, key, "migrated under a running server")
    with running(tmp_path, worker="none", env_too={"DATABASE_URL": database_url}) as server:
        assert server.cli("db", "upgrade") == "already up to date"
        assert server.http.get(f"/v1/workflows/run/{old[0]}", headers=headers).json()["outputs"] == {"text": "old 0"}
        echo(server, key, "new")
        assert server.http.get("/v1/workflows/logs", headers=headers).json()["total"] == 12
        assert queued(server)["status"] == "running"
    assert current_version(settings) == "29990101_future"


def test_a_server_of_the_production_form_refuses_yesterdays_tables(tmp_path: Path, postgres: PostgresDatabases) -> None:
    url = postgres.empty()
    for found, prepare in (("nothing yet", None), ("20261121_runs", "20261121_runs")):
        if prepare:
            migrate(load_settings(data_dir=tmp_path, database_url=url), prepare, tmp_path)
        done = atelier(tmp_path, "serve", "--port", "0", DATABASE_URL=url, ATELIER_WORKER="none")
        assert done.returncode == 1
        assert done.stderr == (
            f"atelier: The database's tables are at {found}, this version of Atelier needs {SCHEMA_HEAD}: "
            "run `atelier db upgrade` first.\n"
        )


@pytest.mark.parametrize("begun", ["nothing", "the first migration"])
def test_two_upgrades_at_once_are_one(tmp_path: Path, postgres: PostgresDatabases, begun: str) -> None:
    url = postgres.empty()
    settings = load_settings(data_dir=tmp_path, database_url=url)
    if begun != "nothing":
        migrate(settings, "20261121_runs", tmp_path)
    env = os.environ | {"DATABASE_URL": url, "ATELIER_DATA_DIR": str(tmp_path)}
    upgrade = [sys.executable, "-m", "app", "db", "upgrade"]
    both = [subprocess.Popen(upgrade, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [(process.communicate(timeout=60)[1], process.returncode) for process in both]
    assert ends == [("", 0), ("", 0)]
    assert (current_version(settings), differences(settings)) == (SCHEMA_HEAD, [])
    store = Store(settings)
    assert [name for name, _, _ in store.read_blocking(accounts.list_apps)] == ["text-to-image"]
    store.close()
