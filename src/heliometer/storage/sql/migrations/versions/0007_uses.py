"""What was used of quotas, such as that of validation codes."""

import sqlalchemy as sa
from alembic import op

from heliometer.storage.sql.column_types import Serial

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "uses",
        sa.Column("id", Serial, autoincrement=True, nullable=False),
        sa.Column("key", sa.LargeBinary(32), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_uses"),
    )
    op.create_index("ix_uses_key_at", "uses", ["key", "at"])
    op.create_index("ix_uses_ends_at", "uses", ["ends_at"])
