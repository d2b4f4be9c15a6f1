"""Servers that tests share. A test that breaks something starts one of its own (`tests.servers`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import PostgresDatabases
from tests.servers import ROOT, Atelier, forget_the_environment, running

forget_the_environment()


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    """A server without a worker: everything that needs no picture, in a second."""
    with running(tmp_path_factory.mktemp("web"), worker="none") as server:
        yield server


@pytest.fixture(scope="session")
def echo_key(web: Atelier) -> str:
    """A key of the app `echo` on the server without a worker."""
    return web.app_key(ROOT / "workflows" / "echo.yml")


@pytest.fixture(scope="session")
def atelier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    """A server with its worker and the checkpoint that ships."""
    with running(tmp_path_factory.mktemp("atelier")) as server:
        server.until_ready()
        yield server


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresDatabases]:
    """A PostgreSQL server; each test that asks gets a database of its own on it."""
    databases = PostgresDatabases(tmp_path_factory.mktemp("postgres"))
    yield databases
    databases.server.stop()


@pytest.fixture(scope="module")
def two_servers(postgres: PostgresDatabases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Atelier]]:
    """Two servers on one database, without Redis: one with a worker whose pictures take no torch, one without."""
    folder, shared = tmp_path_factory.mktemp("two"), {"DATABASE_URL": postgres.new()}
    with (
        running(folder, env_too=shared, worker_module="tests.chaos.painter") as one,
        running(folder, env_too=shared, worker="none") as two,
    ):
        one.until_ready()
        yield [one, two]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """DATABASE_URL of a new database: empty for the SQLite file in the data folder, then PostgreSQL."""
    return "" if request.param == "sqlite" else request.getfixturevalue("postgres").new()


@pytest.fixture(scope="session")
def workflows() -> Path:
    return ROOT / "workflows"
