"""Models that callers have named (expand).

Revision ID: 20261127_presets
"""

import sqlalchemy as sa
from alembic import op

revision = "20261127_presets"
down_revision = "20261126_residents"


def upgrade() -> None:
    op.create_table(
        "presets",
        sa.Column(
            "app_id", sa.String(length=36), sa.ForeignKey("apps.id", name="fk_presets_app_id_apps"), primary_key=True
        ),
        sa.Column("folded", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=False, index=True),
        sa.Column("parent", sa.Text(), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("license", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("modified_at", sa.Double(), nullable=False),
    )
