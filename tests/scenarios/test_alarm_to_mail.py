"""From nothing to a received mail, over real sockets; and through a kill -9."""

import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from conftest import RunningServer
from eventually import eventually
from heliometer.notifications.hosts import AT_ONCE_A_HOST
from mail_server import MailServer, text_of


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    running = MailServer().start()
    yield running
    running.stop()


@pytest.fixture
def server(fresh_server: RunningServer, mail_server: MailServer) -> RunningServer:
    fresh_server.environment |= {
        "HELIOMETER_EMAIL_URL": mail_server.url,
        "HELIOMETER_EMAIL_STARTTLS": "never",
        "HELIOMETER_NOTIFY_PER_ADDRESS_PER_HOUR": "1000",
    }
    return fresh_server.start()


def created(client: httpx.Client, path: str, element: str, **fields: Any) -> dict[str, Any]:
    reply = client.post(path, json={element: fields})
    assert reply.status_code == 201, reply.text
    document: dict[str, Any] = reply.json()[element]
    assert reply.headers["Location"] == f"{path}/{document['id']}"
    return document


def verified_method(client: httpx.Client, mail_server: MailServer, address: str) -> str:
    """A method of a verified address."""
    fields = {"type": "EMAIL", "address": address}
    method = created(
        client, "/v1.1/notification-methods", "notification_method", name="Joe's Email", **fields
    )
    before = len(mail_server.mails)
    created(client, "/v1.1/notification-addresses", "notification_address", name="Joe", **fields)
    code = re.search(r"^ {4}(\d{10})$", text_of(mail_server.wait_for(before + 1)[-1]), re.M)
    assert code
    reply = client.post("/v1.1/notification-addresses/validate", json={"validation_code": code[1]})
    assert reply.status_code == 204, reply.text
    method_id: str = method["id"]
    return method_id


def test_a_measurement_posted_over_http_ends_as_a_mail(
    server: RunningServer, mail_server: MailServer
) -> None:
    with server.client() as client:
        method_id = verified_method(client, mail_server, "joe@mail.com")
        listed = client.get("/v1.1/notification-addresses").json()["notification_addresses"]
        assert [(a["address"], a["state"]) for a in listed] == [("joe@mail.com", "verified")]
        alarm = created(
            client, "/v1.1/alarms", "alarm", name="Lund is hot",
            expression="max(shop{city=Lund}) > 90", alarm_actions=[method_id],
        )  # fmt: skip
        assert alarm["state"] == "UNDETERMINED"
        metric = {"namespace": "shop", "dimensions": {"city": "Lund", "till": "3"}, "value": 95.5}
        assert client.post("/v1.1/metrics", json=metric).status_code == 204

        mail = mail_server.wait_for(2)[1]
        assert mail["Subject"] == "[ALARM] Lund is hot"
        assert mail["X-Envelope-To"] == "joe@mail.com"
        text = text_of(mail)
        for part in (
            "max(shop{city=Lund}) > 90", "95.5", "city=Lund, till=3", "was UNDETERMINED",
            f"/v1.1/alarms/{alarm['id']}",
        ):  # fmt: skip
            assert part in text

        shown = client.get(f"/v1.1/alarms/{alarm['id']}").json()["alarm"]
        assert shown["state"] == "ALARM"
        history = eventually(
            lambda: [
                h
                for h in client.get(f"/v1.1/alarms/{alarm['id']}/history").json()["history"]
                if h["notifications"][0]["status"] == "delivered"
            ]
        )
        assert [(h["old_state"], h["new_state"], h["at_once"]) for h in history] == [
            ("UNDETERMINED", "ALARM", True)
        ]
        told = history[0]["notifications"][0]
        assert told["id"] == mail["X-Heliometer-Notification-Id"]
        assert (told["address"], told["attempts"]) == ("joe@mail.com", 1)
        reason = history[0]["reason"][0]
        assert reason["windows"][0]["value"] == 95.5
        assert reason["series"] == [{"dimensions": {"city": "Lund", "till": "3"}, "value": 95.5}]
        # Once is enough: more of the same tells nobody again.
        assert client.post("/v1.1/metrics", json=metric).status_code == 204
        time.sleep(0.3)
        assert len(mail_server.mails) == 2


def test_who_is_not_verified_is_not_told_and_the_history_says_so(
    server: RunningServer, mail_server: MailServer
) -> None:
    with server.client() as client:
        method = created(
            client, "/v1.1/notification-methods", "notification_method",
            name="Ann", type="EMAIL", address="ann@mail.com",
        )  # fmt: skip
        alarm = created(
            client, "/v1.1/alarms", "alarm", name="n", expression="ns > 1",
            alarm_actions=[method["id"]],
        )  # fmt: skip
        assert client.post("/v1.1/metrics", json={"namespace": "ns", "value": 2}).is_success
        history = eventually(
            lambda: client.get(f"/v1.1/alarms/{alarm['id']}/history").json()["history"]
        )
        told = history[0]["notifications"][0]
        assert (told["status"], told["reason"]) == ("withheld", "the address is not verified")
        assert mail_server.mails == []


@pytest.mark.reliability(9)
def test_a_kill_in_the_middle_of_fifty_transitions_loses_none(
    server: RunningServer, mail_server: MailServer
) -> None:
    number = 50
    with server.client() as client:
        method_id = verified_method(client, mail_server, "joe@mail.com")
        for i in range(number):
            created(
                client, "/v1.1/alarms", "alarm", name=f"alarm {i}",
                expression=f"ns{{i={i}}} > 1", alarm_actions=[method_id],
            )  # fmt: skip
        mail_server.delay_s = 0.05  # so that the kill meets some on their way
        batch = [
            {"namespace": "ns", "dimensions": {"i": str(i)}, "value": 2} for i in range(number)
        ]
        assert client.post("/v1.1/metrics/aggregate", json=batch).status_code == 204
    mail_server.wait_for(10)
    server.stop(signal.SIGKILL)
    mail_server.delay_s = 0.0
    server.start()

    def ids() -> set[str]:
        return {
            m["X-Heliometer-Notification-Id"]
            for m in mail_server.mails
            if m["X-Heliometer-Kind"] == "alarm"
        }

    with server.client(server.token()) as client:
        told = client.get("/v1.1/notifications?kind=alarm&limit=1000").json()["notifications"]
        assert len(told) == number
        assert {n["status"] for n in told} <= {"pending", "delivered"}
        alarms = client.get("/v1.1/alarms?state=ALARM").json()["alarms"]
        assert len(alarms) == number
        delivered = {n["id"] for n in told if n["status"] == "delivered"}
    assert delivered <= ids()
    eventually(lambda: len(ids()) == number)
    came = Counter(
        m["X-Heliometer-Notification-Id"]
        for m in mail_server.mails
        if m["X-Heliometer-Kind"] == "alarm"
    )
    assert max(came.values()) <= 2
    doubled = came.total() - len(came)
    assert doubled <= 2 * AT_ONCE_A_HOST, "only what was under way comes twice, with the same id"
