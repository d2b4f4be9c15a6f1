"""Where a task was asked from, as W3C trace context; and how runs that waited for a worker ended (expand).

Revision ID: 20261122_traceparent
"""

import sqlalchemy as sa
from alembic import op

revision = "20261122_traceparent"
down_revision = "20261121_runs"

_WAITED = sa.text("deadline_at IS NOT NULL AND finished_at IS NOT NULL")


def upgrade() -> None:
    op.add_column("tasks", sa.Column("traceparent", sa.String(length=55), nullable=True))
    op.create_index(
        "ix_runs_waited",
        "runs",
        ["finished_at", "status"],
        unique=False,
        sqlite_where=_WAITED,
        postgresql_where=_WAITED,
    )


def downgrade() -> None:
    op.drop_index("ix_runs_waited", table_name="runs", sqlite_where=_WAITED, postgresql_where=_WAITED)
    op.drop_column("tasks", "traceparent")
