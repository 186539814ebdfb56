"""The expression of an alarm in the form of the dialect that defined it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("alarms", sa.Column("rule", sa.Text(), nullable=False, server_default=""))
