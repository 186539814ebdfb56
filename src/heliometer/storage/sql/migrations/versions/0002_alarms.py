"""Alarms, their history, notification methods and addresses, and the outbox."""

import sqlalchemy as sa
from alembic import op

from heliometer.storage.sql.column_types import string

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "evaluation",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("evaluated_at", sa.BigInteger(), nullable=False),
        sa.Column("checkpoint", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_evaluation"),
    )
    op.create_table(
        "alarms",
        sa.Column("id", string(36), nullable=False),
        sa.Column("project_id", string(32), nullable=False),
        sa.Column("name", string(250), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("severity", string(16), nullable=False),
        sa.Column("expression", sa.Text(), nullable=False),
        sa.Column("normal_form", sa.Text(), nullable=False),
        sa.Column("normal_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("state", string(16), nullable=False),
        sa.Column("state_since", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_alarms_project_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_alarms"),
        sa.UniqueConstraint(
            "project_id", "name", "normal_digest", name="uq_alarms_project_id_name_normal_digest"
        ),
    )
    op.create_index(
        "ix_alarms_project_id_created_at_id", "alarms", ["project_id", "created_at", "id"]
    )
    op.create_table(
        "deliveries",
        sa.Column("id", string(36), nullable=False),
        sa.Column("kind", string(16), nullable=False),
        sa.Column("project_id", string(32), nullable=False),
        sa.Column("type", string(16), nullable=False),
        sa.Column("address", string(1000), nullable=False),
        sa.Column("method_id", string(36), nullable=True),
        sa.Column("alarm_id", string(36), nullable=True),
        sa.Column("transition_id", sa.BigInteger(), nullable=True),
        sa.Column("status", string(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("next_attempt_at", sa.BigInteger(), nullable=False),
        sa.Column("leased_until", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_deliveries_project_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
    )
    op.create_index(
        "ix_deliveries_alarm_id_method_id_status", "deliveries", ["alarm_id", "method_id", "status"]
    )
    op.create_index(
        "ix_deliveries_kind_address_created_at", "deliveries", ["kind", "address", "created_at"]
    )
    op.create_index(
        "ix_deliveries_project_id_created_at_id", "deliveries", ["project_id", "created_at", "id"]
    )
    op.create_index(
        "ix_deliveries_status_next_attempt_at", "deliveries", ["status", "next_attempt_at"]
    )
    op.create_index("ix_deliveries_transition_id", "deliveries", ["transition_id"])
    op.create_table(
        "notification_addresses",
        sa.Column("id", string(36), nullable=False),
        sa.Column("project_id", string(32), nullable=False),
        sa.Column("type", string(16), nullable=False),
        sa.Column("address", string(100), nullable=False),
        sa.Column("name", string(100), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name="fk_notification_addresses_project_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_notification_addresses"),
        sa.UniqueConstraint(
            "project_id",
            "type",
            "address",
            name="uq_notification_addresses_project_id_type_address",
        ),
    )
    op.create_index(
        "ix_notification_addresses_project_id_created_at_id",
        "notification_addresses",
        ["project_id", "created_at", "id"],
    )
    op.create_table(
        "notification_methods",
        sa.Column("id", string(36), nullable=False),
        sa.Column("project_id", string(32), nullable=False),
        sa.Column("name", string(250), nullable=False),
        sa.Column("type", string(16), nullable=False),
        sa.Column("address", string(1000), nullable=False),
        sa.Column("secret", string(128), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name="fk_notification_methods_project_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_notification_methods"),
    )
    op.create_index(
        "ix_notification_methods_project_id_created_at_id",
        "notification_methods",
        ["project_id", "created_at", "id"],
    )
    op.create_table(
        "alarm_actions",
        sa.Column("alarm_id", string(36), nullable=False),
        sa.Column("state", string(16), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("method_id", string(36), nullable=False),
        sa.ForeignKeyConstraint(
            ["alarm_id"], ["alarms.id"], name="fk_alarm_actions_alarm_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["method_id"],
            ["notification_methods.id"],
            name="fk_alarm_actions_method_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("alarm_id", "state", "position", name="pk_alarm_actions"),
    )
    op.create_index("ix_alarm_actions_method_id", "alarm_actions", ["method_id"])
    op.create_table(
        "transitions",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("alarm_id", string(36), nullable=False),
        sa.Column("project_id", string(32), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("old", string(16), nullable=False),
        sa.Column("new", string(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["alarm_id"], ["alarms.id"], name="fk_transitions_alarm_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_transitions_project_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_transitions"),
    )
    op.create_index("ix_transitions_alarm_id_id", "transitions", ["alarm_id", "id"])
    op.create_index("ix_transitions_at", "transitions", ["at"])
    op.create_index("ix_transitions_project_id_id", "transitions", ["project_id", "id"])
    op.create_table(
        "validation_codes",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("address_id", string(36), nullable=False),
        sa.Column("short_hash", string(255), nullable=False),
        sa.Column("long_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["address_id"],
            ["notification_addresses.id"],
            name="fk_validation_codes_address_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_validation_codes"),
    )
    op.create_index("ix_validation_codes_address_id", "validation_codes", ["address_id"])
    op.create_index("ix_validation_codes_long_digest", "validation_codes", ["long_digest"])
