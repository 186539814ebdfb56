"""Every service that the library apprise supports, as far as the operator has allowed its URLs."""

from heliometer.config import Settings
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

    def check_address(self, text: str, settings: Settings, region: str | None = None) -> str:
        from heliometer.notifications.channels.apprise.address import apprise_url

        return apprise_url(text, _schemes(settings))

    def sender(self, settings: Settings) -> Sender:
        from heliometer.notifications.channels.apprise.sender import AppriseSender

        return AppriseSender(_schemes(settings))

    def host(self, address: str) -> str:
        return address.partition("://")[0].lower()


def _schemes(settings: Settings) -> frozenset[str]:
    given = settings.notify.apprise_schemes.split(",")
    return frozenset(scheme.strip().lower() for scheme in given if scheme.strip())
