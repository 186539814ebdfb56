"""What the operations of v1.1 and v1.0 answer with, for the OpenAPI description."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from heliometer.http.operation import Replies


class Link(Struct):
    rel: str
    href: str


class Problem(Struct):
    """A fault (v1.1 §2.6); the key above it names its kind."""

    code: int | UnsetType = UNSET
    message: str | UnsetType = UNSET
    details: str | UnsetType = UNSET
    internal_code: str | UnsetType = UNSET
    faultstring: str | UnsetType = UNSET
    """In a 503, whose form is that of load balancers (§2.6.1)."""
    detail: dict[str, str] | UnsetType = UNSET


FAULT = dict[str, Problem]


class ApiVersion(Struct):
    id: str
    links: list[Link]
    status: str
    updated: str


class VersionReply(Struct):
    version: ApiVersion


class VersionsReply(Struct):
    versions: list[ApiVersion]


class EndpointMeta(Struct):
    amqp_username: str
    amqp_password: str | UnsetType = UNSET
    amqp_queue: str | UnsetType = UNSET
    amqp_exchange: str | UnsetType = UNSET


class EndpointDocument(Struct):
    id: str
    links: list[Link]
    uri: str
    meta: EndpointMeta | UnsetType = UNSET
    queue: dict[str, Any] | UnsetType = UNSET


class EndpointReply(Struct):
    endpoint: EndpointDocument


class EndpointsReply(Struct):
    endpoints: list[EndpointDocument]


class PasswordReply(Struct):
    password: str


class SubscriptionDocument(Struct):
    id: str
    links: list[Link]
    endpoint_id: str
    namespace: str
    dimensions: dict[str, str]
    meta: dict[str, Any] | UnsetType = UNSET


class SubscriptionReply(Struct):
    subscription: SubscriptionDocument


class NewSubscriptionReply(Struct):
    subscription: SubscriptionDocument
    subscriptions: SubscriptionDocument | UnsetType = UNSET
    """The same, as v1.1's document shows it."""


class SubscriptionsReply(Struct):
    subscriptions: list[SubscriptionDocument]
    links: list[Link] | UnsetType = UNSET


class AlarmDocument(Struct):
    """An alarm of v1.1 (§4.4.6)."""

    id: str
    links: list[Link]
    name: str
    expression: str
    state: str
    alarm_actions: list[str]
    ok_actions: list[str]
    undetermined_actions: list[str]
    description: str
    severity: str
    enabled: bool
    flapping: bool
    state_since: str
    created_at: str
    updated_at: str


class AlarmReply(Struct):
    alarm: AlarmDocument


class AlarmsReply(Struct):
    alarms: list[AlarmDocument]
    links: list[Link] | UnsetType = UNSET


class AlarmV1_0(Struct):  # noqa: N801
    """An alarm of v1.0 (§4.4.5)."""

    id: str
    links: list[Link]
    name: str
    namespace: str
    metric_type: str
    dimensions: dict[str, str]
    operator: str
    threshold: float
    state: str
    alarm_actions: list[str]
    metric_subject: str | UnsetType = UNSET


class AlarmReplyV1_0(Struct):  # noqa: N801
    alarm: AlarmV1_0


class AlarmsReplyV1_0(Struct):  # noqa: N801
    alarms: list[AlarmV1_0]


class ExaminedWindow(Struct):
    start: str
    end: str
    value: float | None


class FindingDocument(Struct):
    """What a subexpression was evaluated on, and the outcome."""

    subexpression: str
    truth: bool | None
    function: str | None
    operator: str
    threshold: float
    windows: list[ExaminedWindow]
    matching_series: int
    series: list[dict[str, Any]]


class TransitionDocument(Struct):
    at: str
    old_state: str
    new_state: str
    flapping: bool
    minute: str
    at_once: bool
    reason: list[FindingDocument]


class AlarmDelivery(Struct):
    id: str
    notification_method_id: str | None
    type: str
    address: str
    status: str
    reason: str
    attempts: int
    at: str


class HistoryDocument(TransitionDocument, kw_only=True):
    id: int
    alarm_id: str
    notifications: list[AlarmDelivery]


class HistoryReply(Struct):
    history: list[HistoryDocument]
    links: list[Link]


class ExplanationDocument(Struct):
    alarm_id: str
    name: str
    expression: str
    state: str
    flapping: bool
    state_since: str
    minute: str
    truth: bool | None
    unknown_evaluations: int
    undetermined_after: int
    subexpressions: list[dict[str, Any]]
    last_transition: HistoryDocument | None


class ExplanationReply(Struct):
    explanation: ExplanationDocument


class Span(Struct):
    start: str
    end: str


class DryRunDocument(Struct):
    start_time: str
    end_time: str
    transitions: list[TransitionDocument]
    transitions_left_out: int
    alarms: int
    seconds_in_alarm: float
    seconds: dict[str, float]
    spans: list[Span]
    minutes: list[int] | UnsetType = UNSET
    values: list[list[float | None]] | UnsetType = UNSET


class DryRunReply(Struct):
    dry_run: DryRunDocument


class MethodDocument(Struct):
    id: str
    links: list[Link]
    name: str
    type: str
    address: str


class MethodReply(Struct):
    notification_method: MethodDocument


class MethodsReply(Struct):
    notification_methods: list[MethodDocument]
    links: list[Link] | UnsetType = UNSET


class AddressDocument(Struct):
    id: str
    links: list[Link]
    type: str
    state: str
    address: str
    name: str


class AddressReply(Struct):
    notification_address: AddressDocument


class AddressesReply(Struct):
    notification_addresses: list[AddressDocument]
    links: list[Link] | UnsetType = UNSET


class NotificationDocument(Struct):
    id: str
    links: list[Link]
    kind: str
    notification_method_id: str | None
    alarm_id: str | None
    transition_id: int | None
    type: str
    address: str
    status: str
    reason: str
    attempts: int
    created_at: str
    changed_at: str


class NotificationReply(Struct):
    notification: NotificationDocument


class NotificationsReply(Struct):
    notifications: list[NotificationDocument]
    links: list[Link] | UnsetType = UNSET


class AuditEntryDocument(Struct):
    id: int
    timestamp: str
    actor: str
    project_id: str | None
    action: str
    details: str


class AuditReply(Struct):
    audit: list[AuditEntryDocument]
    links: list[Link]


class InvitationDocument(Struct):
    id: str
    role: str
    created_by: str
    created_at: str
    expires_at: str
    code: str | UnsetType = UNSET
    url: str | UnsetType = UNSET


class InvitationReply(Struct):
    """``code`` and ``url`` are in the answer to the creation only."""

    invitation: InvitationDocument


class InvitationsReply(Struct):
    invitations: list[InvitationDocument]


class JoinedReply(Struct):
    project: dict[str, str]
    role: str


_STREAMS: Replies = {
    "GET ": VersionReply,
    "POST /endpoints": EndpointReply,
    "GET /endpoints": EndpointsReply,
    "GET /endpoints/{endpoint_id}": EndpointReply,
    "POST /endpoints/{endpoint_id}/reset-password": PasswordReply,
    "POST /subscriptions": NewSubscriptionReply,
    "GET /subscriptions": SubscriptionsReply,
    "GET /subscriptions/{subscription_id}": SubscriptionReply,
    "POST /notification-methods": MethodReply,
    "GET /notification-methods": MethodsReply,
    "GET /notification-methods/{method_id}": MethodReply,
}
V1_0: Replies = {
    **_STREAMS,
    "POST /alarms": AlarmReplyV1_0,
    "GET /alarms": AlarmsReplyV1_0,
    "GET /alarms/{alarm_id}": AlarmReplyV1_0,
}
V1_1: Replies = {
    **_STREAMS,
    "POST /alarms": AlarmReply,
    "GET /alarms": AlarmsReply,
    "GET /alarms/history": HistoryReply,
    "POST /alarms/dry-run": DryRunReply,
    "GET /alarms/{alarm_id}": AlarmReply,
    "PUT /alarms/{alarm_id}": AlarmReply,
    "PATCH /alarms/{alarm_id}": AlarmReply,
    "GET /alarms/{alarm_id}/history": HistoryReply,
    "GET /alarms/{alarm_id}/explanation": ExplanationReply,
    "POST /notification-addresses": AddressReply,
    "GET /notification-addresses": AddressesReply,
    "GET /notification-addresses/{address_id}": AddressReply,
    "POST /notification-methods/{method_id}/test": NotificationReply,
    "GET /notifications": NotificationsReply,
    "GET /notifications/{notification_id}": NotificationReply,
    "POST /notifications/{notification_id}/replay": NotificationReply,
    "GET /audit": AuditReply,
    "GET /invitations": InvitationsReply,
    "POST /invitations": InvitationReply,
    "POST /invitations/accept": JoinedReply,
}
