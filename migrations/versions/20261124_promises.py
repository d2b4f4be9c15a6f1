"""What callers are promised: idempotency, limits, deadlines, scoped keys, webhooks, timings (expand).

Revision ID: 20261124_promises
"""

import sqlalchemy as sa
from alembic import op

revision = "20261124_promises"
down_revision = "20261123_priority"

RUNNING = "status = 'running'"
READY = "status = 'ready'"
DUE = "next_at IS NOT NULL"


def upgrade() -> None:
    op.add_column("apps", sa.Column("max_active_requests", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("apps", sa.Column("webhook_secret", sa.Text(), nullable=True))
    op.add_column("apps", sa.Column("webhook_old_secret", sa.Text(), nullable=True))
    op.add_column("apps", sa.Column("webhook_old_until", sa.Double(), nullable=True))

    op.add_column("keys", sa.Column("scopes", sa.Text(), nullable=False, server_default="run,read,stop,files"))
    op.add_column("keys", sa.Column("expires_at", sa.Double(), nullable=True))
    op.add_column("keys", sa.Column("last_used_at", sa.Double(), nullable=True))
    op.add_column("keys", sa.Column("max_active", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("keys", sa.Column("max_queued", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("keys", sa.Column("served_at", sa.Double(), nullable=True))

    op.add_column("tasks", sa.Column("priority", sa.Integer(), nullable=True))

    op.add_column("runs", sa.Column("key_id", sa.String(length=36), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("error_code", sa.Text(), nullable=True))
    op.add_column("runs", sa.Column("deadline_s", sa.Double(), nullable=True))
    op.add_column("runs", sa.Column("updated_at", sa.Double(), nullable=True))
    op.create_index(
        "ix_runs_active_app", "runs", ["app_id"], sqlite_where=sa.text(RUNNING), postgresql_where=sa.text(RUNNING)
    )
    op.create_index(
        "ix_runs_active_key", "runs", ["key_id"], sqlite_where=sa.text(RUNNING), postgresql_where=sa.text(RUNNING)
    )

    op.add_column("steps", sa.Column("key_id", sa.String(length=36), nullable=False, server_default=""))
    op.add_column("steps", sa.Column("expires_at", sa.Double(), nullable=True))
    op.add_column("steps", sa.Column("timings", sa.Text(), nullable=True))
    op.add_column("steps", sa.Column("progress_step", sa.Integer(), nullable=True))
    op.add_column("steps", sa.Column("progress_steps", sa.Integer(), nullable=True))
    op.add_column("steps", sa.Column("progress_eta_s", sa.Double(), nullable=True))
    op.create_index(
        "ix_steps_ready_key", "steps", ["key_id"], sqlite_where=sa.text(READY), postgresql_where=sa.text(READY)
    )

    op.add_column("artifacts", sa.Column("width", sa.Integer(), nullable=True))
    op.add_column("artifacts", sa.Column("height", sa.Integer(), nullable=True))
    op.add_column("artifacts", sa.Column("seed", sa.BigInteger(), nullable=True))

    op.create_table(
        "idempotency_keys",
        sa.Column("key_id", sa.String(length=36), primary_key=True),
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
    )
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"])

    op.create_table(
        "open_calls",
        sa.Column("run_id", sa.String(length=36), primary_key=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("broke_at", sa.Double(), nullable=True),
    )
    op.create_index("ix_open_calls_fingerprint", "open_calls", ["fingerprint"])

    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(length=36), primary_key=True),
        sa.Column("app_id", sa.String(length=36), sa.ForeignKey("apps.id"), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("disabled_at", sa.Double(), nullable=True),
    )
    op.create_index("ix_webhooks_app_id", "webhooks", ["app_id"])

    op.create_table(
        "run_webhooks",
        sa.Column("run_id", sa.String(length=36), primary_key=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
    )

    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(length=36), primary_key=True),
        sa.Column("app_id", sa.String(length=36), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("webhook_id", sa.String(length=36), nullable=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=True),
        sa.Column("last_at", sa.Double(), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("delivered_at", sa.Double(), nullable=True),
    )
    op.create_index("ix_deliveries_app_id_created_at", "deliveries", ["app_id", "created_at"])
    op.create_index("ix_deliveries_run_id", "deliveries", ["run_id"])
    op.create_index("ix_deliveries_created_at", "deliveries", ["created_at"])
    op.create_index(
        "ix_deliveries_due", "deliveries", ["next_at", "host"], sqlite_where=sa.text(DUE), postgresql_where=sa.text(DUE)
    )

    op.create_table(
        "revisions",
        sa.Column("name", sa.String(length=16), primary_key=True),
        sa.Column("revision", sa.Integer(), nullable=False),
    )


def downgrade() -> None:
    for table in ("revisions", "deliveries", "run_webhooks", "webhooks", "open_calls", "idempotency_keys"):
        op.drop_table(table)
    op.drop_index("ix_steps_ready_key", "steps")
    op.drop_index("ix_runs_active_key", "runs")
    op.drop_index("ix_runs_active_app", "runs")
    for table, columns in (
        ("artifacts", ("seed", "height", "width")),
        ("steps", ("progress_eta_s", "progress_steps", "progress_step", "timings", "expires_at", "key_id")),
        ("runs", ("updated_at", "deadline_s", "error_code", "key_id")),
        ("tasks", ("priority",)),
        ("keys", ("served_at", "max_queued", "max_active", "last_used_at", "expires_at", "scopes")),
        ("apps", ("webhook_old_until", "webhook_old_secret", "webhook_secret", "max_active_requests")),
    ):
        for column in columns:
            op.drop_column(table, column)
