"""Which key secrets are encrypted with, and room for what is longer encrypted."""

import sqlalchemy as sa
from alembic import op

from heliometer.storage.sql.column_types import sealed, string

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "secret_key",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("fingerprint", string(16), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("resealed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_secret_key"),
    )
    if op.get_bind().dialect.name == "postgresql":  # longer text needs no rewriting there
        op.alter_column("notification_methods", "address", type_=sealed(1000))
        op.alter_column("notification_methods", "secret", type_=sealed(128))
        op.alter_column("deliveries", "address", type_=sealed(1000))
