"""Users who may operate the whole service: at first the one that the first start made."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column(
        "users",
        sa.Column("is_operator", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    # Every user with the role admin could do this before; now they administer their project.
    op.execute(
        "UPDATE users SET is_operator = true WHERE name IN "
        "(SELECT details FROM audit WHERE actor = 'first start')"
    )
    op.create_index("ix_audit_at", "audit", ["at"])
