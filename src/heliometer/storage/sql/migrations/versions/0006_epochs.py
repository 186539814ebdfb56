"""The fencing token that decides which owner of a shard may commit."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column(
        "evaluation", sa.Column("epoch", sa.Integer(), nullable=False, server_default="0")
    )
