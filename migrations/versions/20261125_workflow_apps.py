"""Whole workflow apps: inner steps, hidden arguments, tokens, pauses, uploads, forms, end users (expand).

A step's row is found by its id: a node inside a loop has one for each round.

Revision ID: 20261125_workflow_apps
"""

import sqlalchemy as sa
from alembic import op

revision = "20261125_workflow_apps"
down_revision = "20261124_promises"

WAITING = "status = 'waiting'"


def upgrade() -> None:
    op.add_column("apps", sa.Column("site", sa.Text(), nullable=True))
    op.add_column("workflows", sa.Column("environment", sa.Text(), nullable=True))

    op.add_column("runs", sa.Column("total_tokens", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("paused_at", sa.Double(), nullable=True))

    op.add_column("steps", sa.Column("scope", sa.Text(), nullable=True))
    op.add_column("steps", sa.Column("arguments", sa.Text(), nullable=True))
    op.add_column("steps", sa.Column("metadata", sa.Text(), nullable=True))
    _key_steps_by_id()

    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=36), primary_key=True),
        sa.Column("app_id", sa.String(length=36), sa.ForeignKey("apps.id"), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mime_type", sa.Text(), nullable=False),
        sa.Column("extension", sa.String(length=32), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("source_url", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
    )
    op.create_index("ix_uploads_sha256", "uploads", ["sha256"])
    op.create_index("ix_uploads_app_id_created_at", "uploads", ["app_id", "created_at"])

    op.create_table(
        "forms",
        sa.Column("id", sa.String(length=36), primary_key=True),
        sa.Column("token", sa.String(length=64), nullable=False, unique=True),
        sa.Column("app_id", sa.String(length=36), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("step_id", sa.String(length=36), nullable=False),
        sa.Column("node_id", sa.String(length=255), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("filled", sa.Text(), nullable=True),
        sa.Column("filled_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("filled_at", sa.Double(), nullable=True),
    )
    op.create_index("ix_forms_run_id", "forms", ["run_id"])
    op.create_index(
        "ix_forms_waiting", "forms", ["expires_at"], sqlite_where=sa.text(WAITING), postgresql_where=sa.text(WAITING)
    )

    op.create_table(
        "end_users",
        sa.Column("id", sa.String(length=36), primary_key=True),
        sa.Column("app_id", sa.String(length=36), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
    )


def _key_steps_by_id() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("pk_steps", "steps")
        op.create_primary_key("pk_steps", "steps", ["run_id", "id"])
        return
    # SQLite can't change a key: the table is made anew from its own words, and so are its indexes.
    words = "SELECT name, type, sql FROM sqlite_master WHERE tbl_name = 'steps' AND sql IS NOT NULL"
    found = op.get_bind().exec_driver_sql(words).fetchall()
    (table,) = (sql for _, kind, sql in found if kind == "table")
    indexes = {name: sql for name, kind, sql in found if kind == "index"}
    keyed = table.replace("PRIMARY KEY (run_id, node_id)", "PRIMARY KEY (run_id, id)")
    if keyed == table:
        raise RuntimeError("the table of steps has another key than expected")
    op.execute("ALTER TABLE steps RENAME TO steps_before")
    for name in indexes:
        op.execute(f"DROP INDEX {name}")
    op.execute(keyed)
    op.execute("INSERT INTO steps SELECT * FROM steps_before")
    op.execute("DROP TABLE steps_before")
    for statement in indexes.values():
        op.execute(statement)
