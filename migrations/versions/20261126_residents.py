"""What each worker has in memory (expand).

Revision ID: 20261126_residents
"""

import sqlalchemy as sa
from alembic import op

revision = "20261126_residents"
down_revision = "20261125_workflow_apps"


def upgrade() -> None:
    op.create_table(
        "residents",
        sa.Column("worker_id", sa.String(length=36), primary_key=True),
        sa.Column("checkpoint", sa.Text(), primary_key=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("vram_size", sa.BigInteger(), nullable=False),
        sa.Column("loaded_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
    )
