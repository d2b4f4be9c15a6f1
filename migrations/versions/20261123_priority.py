"""Whose steps go first, and since when a worker has had a step (expand).

Revision ID: 20261123_priority
"""

import sqlalchemy as sa
from alembic import op

revision = "20261123_priority"
down_revision = "20261122_traceparent"


def upgrade() -> None:
    op.add_column("keys", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("steps", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("steps", sa.Column("claimed_at", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("steps", "claimed_at")
    op.drop_column("steps", "priority")
    op.drop_column("keys", "priority")
