"""Every service that the library apprise supports, as far as the operator has allowed its URLs."""

import hashlib
from collections.abc import Iterator

from heliometer.config import Settings
from heliometer.core.finding import Finding
from heliometer.notifications.channels.channel import AddressField, Channel, Sender


class AppriseChannel(Channel):
    title = "apprise"
    summary = "Slack, PagerDuty …"
    section = "notify"
    docs = "docs/alarms.md#notifications"
    address = AddressField(
        "apprise URL", "slack://TOKEN_A/TOKEN_B/TOKEN_C",
        "Of a service that the operator has allowed.",
    )  # fmt: skip

    secret_address = True

    def check_address(self, text: str, settings: Settings, region: str | None = None) -> str:
        from heliometer.notifications.channels.apprise.address import apprise_url

        return apprise_url(text, _schemes(settings))

    def sender(self, settings: Settings) -> Sender:
        from heliometer.notifications.channels.apprise.sender import AppriseSender

        return AppriseSender(_schemes(settings), allow_private=settings.webhook.allow_private)

    def shown(self, address: str) -> str:
        return f"{address.partition('://')[0].lower()}://…"

    def host(self, address: str) -> str:
        # By the whole URL, as a digest: which part of it names a host differs, some of it is
        # secret, and one tenant's wrong token must not hold up another's messages.
        digest = hashlib.sha256(address.encode()).hexdigest()[:12]
        return f"{address.partition('://')[0].lower()} {digest}"

    def doctor(self, settings: Settings) -> Iterator[Finding]:
        from heliometer.notifications.channels.apprise.doctor import check

        return check(self, _schemes(settings))


def _schemes(settings: Settings) -> frozenset[str]:
    given = settings.notify.apprise_schemes.split(",")
    return frozenset(scheme.strip().lower() for scheme in given if scheme.strip())
