"""Endpoints and subscriptions of the feed."""

import sqlalchemy as sa
from alembic import op

from heliometer.storage.sql.column_types import string

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "endpoints",
        sa.Column("id", string(36), nullable=False),
        sa.Column("project_id", string(32), nullable=False),
        sa.Column("password_hash", string(64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_endpoints_project_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_endpoints"),
        sa.UniqueConstraint("project_id", name="uq_endpoints_project_id"),
    )
    op.create_table(
        "subscriptions",
        sa.Column("id", string(36), nullable=False),
        sa.Column("endpoint_id", string(36), nullable=False),
        sa.Column("project_id", string(32), nullable=False),
        sa.Column("namespace", string(64), nullable=False),
        sa.Column("dimensions", sa.Text(), nullable=False),
        sa.Column("dimensions_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["endpoints.id"],
            name="fk_subscriptions_endpoint_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_subscriptions_project_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_subscriptions"),
        sa.UniqueConstraint(
            "endpoint_id",
            "namespace",
            "dimensions_digest",
            name="uq_subscriptions_endpoint_id_namespace_dimensions_digest",
        ),
    )
    op.create_index(
        "ix_subscriptions_project_id_created_at_id",
        "subscriptions",
        ["project_id", "created_at", "id"],
    )
