"""Tables of the resource database. Times are milliseconds since 1970, UTC.

A change here needs a migration beside it; a test compares the two.
"""

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from heliometer.storage.sql.column_types import Serial, sealed, string


class Base(DeclarativeBase):
    """Names every constraint, so that later migrations can drop it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class ProjectRow(Base):
    """A project and its monitoring level."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(string(32), primary_key=True)
    name: Mapped[str] = mapped_column(string(64), unique=True)
    enabled: Mapped[bool]
    monitoring_level: Mapped[str | None] = mapped_column(string(16))
    created_at: Mapped[int] = mapped_column(BigInteger)


class UserRow(Base):
    """A user of the built-in identity."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(string(32), primary_key=True)
    name: Mapped[str] = mapped_column(string(64), unique=True)
    password_hash: Mapped[str] = mapped_column(string(255))
    enabled: Mapped[bool]
    is_operator: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[int] = mapped_column(BigInteger)


class GrantRow(Base):
    """A user's role in a project."""

    __tablename__ = "grants"

    user_id: Mapped[str] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    project_id: Mapped[str] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    role: Mapped[str] = mapped_column(string(16))


class TokenRow(Base):
    """A token; only its digest is stored."""

    __tablename__ = "tokens"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    project_id: Mapped[str | None] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), index=True
    )
    methods: Mapped[str] = mapped_column(string(64))
    issued_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger, index=True)
    audit_ids: Mapped[str] = mapped_column(string(64))


class InvitationRow(Base):
    """An invitation to a project that waits to be accepted; only its code's digest is stored."""

    __tablename__ = "invitations"

    id: Mapped[str] = mapped_column(string(32), primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    project_id: Mapped[str] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), index=True
    )
    role: Mapped[str] = mapped_column(string(16))
    created_by: Mapped[str] = mapped_column(string(64))
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)


class AuditRow(Base):
    """Who changed what. Rows outlive what they describe, so they reference nothing."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "project_id", "at"), Index(None, "at"))

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    at: Mapped[int] = mapped_column(BigInteger)
    actor: Mapped[str] = mapped_column(string(64))
    project_id: Mapped[str | None] = mapped_column(string(32))
    action: Mapped[str] = mapped_column(string(64))
    details: Mapped[str] = mapped_column(Text)


class ProbeRow(Base):
    """The health check's table: one row with the time of the last check."""

    __tablename__ = "probe"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[int] = mapped_column(BigInteger)


class SecretKeyRow(Base):
    """Which key the secrets are encrypted with: one row, once there is one. The key itself is in a
    file."""

    __tablename__ = "secret_key"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    fingerprint: Mapped[str] = mapped_column(string(16))
    changed_at: Mapped[int] = mapped_column(BigInteger)
    resealed: Mapped[bool]
    """Whether nothing is left that is not encrypted with it."""


class AlarmRow(Base):
    """An alarm with its state."""

    __tablename__ = "alarms"
    __table_args__ = (
        UniqueConstraint("project_id", "name", "normal_digest"),
        Index(None, "project_id", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(string(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(string(250))
    description: Mapped[str] = mapped_column(Text)
    severity: Mapped[str] = mapped_column(string(16))
    expression: Mapped[str] = mapped_column(Text)
    normal_form: Mapped[str] = mapped_column(Text)
    normal_digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    """SHA-256 of the normal form, which may be too long for an index."""
    enabled: Mapped[bool]
    state: Mapped[str] = mapped_column(string(16))
    state_since: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[int] = mapped_column(BigInteger)
    rule: Mapped[str] = mapped_column(Text, server_default="")


class ActionRow(Base):
    """A notification method that is notified when an alarm enters a state."""

    __tablename__ = "alarm_actions"

    alarm_id: Mapped[str] = mapped_column(
        ForeignKey("alarms.id", ondelete="CASCADE"), primary_key=True
    )
    state: Mapped[str] = mapped_column(string(16), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    method_id: Mapped[str] = mapped_column(
        ForeignKey("notification_methods.id", ondelete="CASCADE"), index=True
    )


class TransitionRow(Base):
    """A change of an alarm's state, and why."""

    __tablename__ = "transitions"
    __table_args__ = (Index(None, "alarm_id", "id"), Index(None, "project_id", "id"))

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    alarm_id: Mapped[str] = mapped_column(ForeignKey("alarms.id", ondelete="CASCADE"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    at: Mapped[int] = mapped_column(BigInteger, index=True)
    old: Mapped[str] = mapped_column(string(16))
    new: Mapped[str] = mapped_column(string(16))
    reason: Mapped[str] = mapped_column(Text)


class EvaluationRow(Base):
    """The state that an evaluator resumes from: a row for each shard."""

    __tablename__ = "evaluation"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """The shard's number, counted from 1."""
    evaluated_at: Mapped[int] = mapped_column(BigInteger)
    checkpoint: Mapped[bytes] = mapped_column(LargeBinary)
    epoch: Mapped[int] = mapped_column(Integer, server_default="0")
    """The fencing token: it grows with each owner of the shard, and only the newest owner may
    commit."""


class MethodRow(Base):
    """A notification method of a project."""

    __tablename__ = "notification_methods"
    __table_args__ = (Index(None, "project_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(string(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(string(250))
    type: Mapped[str] = mapped_column(string(16))
    address: Mapped[str] = mapped_column(sealed(1000))
    secret: Mapped[str] = mapped_column(sealed(128))
    created_at: Mapped[int] = mapped_column(BigInteger)


class AddressRow(Base):
    """An address that a project has proved, or is to prove, it may notify."""

    __tablename__ = "notification_addresses"
    __table_args__ = (
        UniqueConstraint("project_id", "type", "address"),
        Index(None, "project_id", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(string(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    type: Mapped[str] = mapped_column(string(16))
    address: Mapped[str] = mapped_column(string(100))
    name: Mapped[str] = mapped_column(string(100))
    verified: Mapped[bool]
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)


class CodeRow(Base):
    """A validation code that was sent; only its digests are stored."""

    __tablename__ = "validation_codes"

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    address_id: Mapped[str] = mapped_column(
        ForeignKey("notification_addresses.id", ondelete="CASCADE"), index=True
    )
    short_hash: Mapped[str] = mapped_column(string(255))
    long_digest: Mapped[bytes] = mapped_column(LargeBinary(32), index=True)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    failures: Mapped[int] = mapped_column(Integer)


class DeliveryRow(Base):
    """One message to one destination: the outbox while it is pending, then the delivery log."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index(None, "status", "next_attempt_at"),
        Index(None, "project_id", "created_at", "id"),
        Index(None, "alarm_id", "method_id", "status"),
        Index(None, "transition_id"),
        Index(None, "kind", "address", "created_at"),
    )

    id: Mapped[str] = mapped_column(string(36), primary_key=True)
    kind: Mapped[str] = mapped_column(string(16))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    type: Mapped[str] = mapped_column(string(16))
    address: Mapped[str] = mapped_column(sealed(1000))
    method_id: Mapped[str | None] = mapped_column(string(36))
    alarm_id: Mapped[str | None] = mapped_column(string(36))
    transition_id: Mapped[int | None] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(string(16))
    reason: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[int] = mapped_column(BigInteger)
    next_attempt_at: Mapped[int] = mapped_column(BigInteger)
    leased_until: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[int] = mapped_column(BigInteger)
    changed_at: Mapped[int] = mapped_column(BigInteger)
    payload: Mapped[str] = mapped_column(Text)


class EndpointRow(Base):
    """A project's access to its feed."""

    __tablename__ = "endpoints"

    id: Mapped[str] = mapped_column(string(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), unique=True
    )
    password_hash: Mapped[str] = mapped_column(string(64))
    created_at: Mapped[int] = mapped_column(BigInteger)


class SubscriptionRow(Base):
    """A subscription of an endpoint."""

    __tablename__ = "subscriptions"
    __table_args__ = (
        UniqueConstraint("endpoint_id", "namespace", "dimensions_digest"),
        Index(None, "project_id", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(string(36), primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoints.id", ondelete="CASCADE"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    namespace: Mapped[str] = mapped_column(string(64))
    dimensions: Mapped[str] = mapped_column(Text)
    """A JSON object with its keys sorted."""
    dimensions_digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    """SHA-256 of the dimensions, which may be too long for an index."""
    created_at: Mapped[int] = mapped_column(BigInteger)


class MeterRow(Base):
    """A custom meter, and counts of its recent samples."""

    __tablename__ = "custom_meters"
    __table_args__ = (
        UniqueConstraint("project_id", "name", "resource_id", "namespace"),
        Index(None, "project_id", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(string(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    namespace: Mapped[str] = mapped_column(string(64))
    resource_id: Mapped[str] = mapped_column(string(64))
    name: Mapped[str] = mapped_column(string(255))
    type: Mapped[str] = mapped_column(string(16))
    unit: Mapped[str] = mapped_column(string(32))
    display_name: Mapped[str] = mapped_column(string(255))
    created_at: Mapped[int] = mapped_column(BigInteger)
    put_at: Mapped[int] = mapped_column(BigInteger)
    """When a sample was last accepted; 0 if never."""
    put_day: Mapped[int] = mapped_column(Integer)
    """The UTC day of that, counted from 1970."""
    put_number: Mapped[int] = mapped_column(Integer)
    """Samples accepted on that day."""


class UseRow(Base):
    """One use of a quota (``core.quotas``), kept until it counts no longer."""

    __tablename__ = "uses"
    __table_args__ = (Index(None, "key", "at"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    key: Mapped[bytes] = mapped_column(LargeBinary(32))
    """SHA-256 of the quota and of whoever used it."""
    at: Mapped[int] = mapped_column(BigInteger)
    ends_at: Mapped[int] = mapped_column(BigInteger, index=True)
