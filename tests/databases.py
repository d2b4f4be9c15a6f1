"""A database of its own for a test: a new SQLite file, or a copy of a migrated PostgreSQL database."""

from __future__ import annotations

from pathlib import Path

import psycopg

from app import ids
from app.cluster.servers import PostgreSQL
from app.settings import load_settings
from app.store.migrate import upgrade


class PostgresDatabases:
    """One server for a whole test session; copying a migrated database costs a tenth of migrating one."""

    def __init__(self, folder: Path) -> None:
        self.server = PostgreSQL(folder, settings=["max_connections=300"])
        self.server.start()
        upgrade(load_settings(data_dir=folder, database_url=self.server.url))

    def new(self) -> str:
        """The URL of a new, migrated database."""
        return self._create("atelier")

    def empty(self) -> str:
        """The URL of a new database without tables."""
        return self._create("template0")

    def _create(self, template: str) -> str:
        name = f"test_{ids.new_id().replace('-', '')}"
        with psycopg.connect(self.server.url.removesuffix("/atelier") + "/postgres", autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.server.url.removesuffix("/atelier") + f"/{name}"
