"""Open invitations to projects."""

import sqlalchemy as sa
from alembic import op

from heliometer.storage.sql.column_types import string

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "invitations",
        sa.Column("id", string(32), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("project_id", string(32), nullable=False),
        sa.Column("role", string(16), nullable=False),
        sa.Column("created_by", string(64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_invitations"),
        sa.UniqueConstraint("digest", name="uq_invitations_digest"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], ondelete="CASCADE", name="fk_invitations_project_id"
        ),
    )
    op.create_index("ix_invitations_project_id", "invitations", ["project_id"])
