"""Webhooks: a signed POST of the message as JSON to a URL of the tenant's."""

from urllib.parse import urlsplit

from heliometer.config import Settings
from heliometer.notifications.channels.channel import AddressField, Channel, Sender


class WebhookChannel(Channel):
    title = "webhook"
    summary = "JSON to a URL"
    section = "webhook"
    docs = "docs/alarms.md#webhooks"
    address = AddressField("URL", "https://chat.example.org/hook")
    signs = True
    secret_address = True

    def check_address(self, text: str, settings: Settings, region: str | None = None) -> str:
        from heliometer.notifications.channels.webhook.address import webhook_url

        schemes = ("https",) if settings.webhook.require_https else ("http", "https")
        return webhook_url(text, schemes)

    def sender(self, settings: Settings) -> Sender:
        from heliometer.notifications.channels.webhook.sender import WebhookSender

        return WebhookSender(settings.webhook)

    def shown(self, address: str) -> str:
        parts = urlsplit(address)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"

    def host(self, address: str) -> str:
        return urlsplit(address).netloc.lower()
