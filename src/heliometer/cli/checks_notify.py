"""Checks of what takes notifications: the mail relay and the SMS gateway."""

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit

from heliometer.config import Settings, WrongSetting
from heliometer.core.finding import FAIL, OK, WARN, Finding
from heliometer.core.server_status import ServerStatus

TIMEOUT_S = 5.0


def relays(settings: Settings, server: ServerStatus) -> Iterator[Finding]:
    """Whether messages could be handed over."""
    from heliometer.notifications.channels import KINDS, Probed
    from heliometer.notifications.model import EMAIL, SMS

    for type_, name, url in (
        (EMAIL, "e-mail", settings.email.url),
        (SMS, "SMS", settings.sms.url),
    ):
        if url.startswith(("maildir:", "folder:")):
            what = "files, until email.url names a relay" if type_ == EMAIL else "files"
            yield Finding(name, OK, f"goes into {what}")
            continue
        parts = urlsplit(url)
        place = f"{parts.hostname}:{parts.port}" if parts.port else f"{parts.hostname}"
        setting = "email.url" if type_ == EMAIL else "sms.url"
        try:
            kind = KINDS[type_](settings)
        except WrongSetting as error:
            yield Finding(name, FAIL, str(error), "correct the setting")
            continue
        why = asyncio.run(_ask(kind)) if isinstance(kind, Probed) else ""
        if why:
            yield Finding(
                name, FAIL, f"{place} does not take messages: {why}",
                f"start it, or correct {setting}; what is to be sent waits up to "
                f"{settings.notify.retry_period // 3600} hours",
            )  # fmt: skip
        elif type_ == EMAIL and parts.scheme == "smtp" and settings.email.starttls == "never":
            yield Finding(
                name, WARN, f"{place} answers, without TLS", "set email.starttls to required"
            )
        else:
            yield Finding(name, OK, f"{place} answers")


async def _ask(kind: object) -> str:
    """Why the relay is not to be had; empty: it is."""
    from heliometer.notifications.channels import Kind, Probed

    assert isinstance(kind, Probed)
    try:
        await asyncio.wait_for(kind.ping(), TIMEOUT_S)
    except TimeoutError:
        return f"no answer within {TIMEOUT_S:g} s"
    except Exception as error:  # whatever keeps us from it is the finding
        return " ".join(str(error).split())[:200] or type(error).__name__
    finally:
        closing: Kind = kind  # type: ignore[assignment]
        await closing.close()
    return ""
