"""The table of custom meters."""

import sqlalchemy as sa
from alembic import op

from heliometer.storage.sql.column_types import string

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "custom_meters",
        sa.Column("id", string(36), nullable=False),
        sa.Column("project_id", string(32), nullable=False),
        sa.Column("namespace", string(64), nullable=False),
        sa.Column("resource_id", string(64), nullable=False),
        sa.Column("name", string(255), nullable=False),
        sa.Column("type", string(16), nullable=False),
        sa.Column("unit", string(32), nullable=False),
        sa.Column("display_name", string(255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("put_at", sa.BigInteger(), nullable=False),
        sa.Column("put_day", sa.Integer(), nullable=False),
        sa.Column("put_number", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_custom_meters_project_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_custom_meters"),
        sa.UniqueConstraint(
            "project_id",
            "name",
            "resource_id",
            "namespace",
            name="uq_custom_meters_project_id_name_resource_id_namespace",
        ),
    )
    op.create_index(
        "ix_custom_meters_project_id_created_at_id",
        "custom_meters",
        ["project_id", "created_at", "id"],
    )
