"""Runs the cases in the ``.toml`` files of all dialects: requests and what they are answered with.

A case is a list of steps, sent one after the other. In requests and replies ``<ns>`` is a
namespace of the case's own, ``<t+60>`` a Unix time and ``<iso+60>`` the same in ISO 8601, counted
from the beginning of an hour in the near past; ``<now-60>`` is a Unix time counted from now.
``<shop>`` and ``<stock>`` are ids of projects, and ``<url>`` is where the server is. ``save`` names
what a reply holds, such as ``alarm = "alarm.id"``: from then on it is ``<alarm>``. ``…`` in a reply
stands for any text. A step is sent by the user that ``by`` names, ``member`` unless given,
``nobody`` without a token.
"""

import gzip
import itertools
import json
import re
import time
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.people import People, server_with_people

numbers = itertools.count(1)


def cases() -> Iterator[Any]:
    for path in sorted(Path(__file__).parent.glob("*/*.toml")):
        for case in tomllib.loads(path.read_text(encoding="utf-8"))["case"]:
            marks = [pytest.mark.reliability(16)] if path.stem == "isolation" else []
            name = f"{path.stem}: {case['name'].replace('§', '')}"
            yield pytest.param(case, id=name, marks=marks)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    """A server of their own: some documents ask for everything that a project has."""
    with server_with_people(tmp_path_factory.mktemp("documents") / "var") as made:
        yield made


@pytest.fixture(scope="module")
def client(people: People) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=people.server.url) as connected:
        yield connected


@pytest.mark.parametrize("case", list(cases()))
def test_the_answer_is_the_documented_one(
    case: dict[str, Any],
    people: People,
    client: httpx.Client,
) -> None:
    hour = int(time.time()) // 3600 * 3600 - 7200
    moments = {"t": hour, "now": int(time.time()), "iso": hour}
    words = {**people.projects, "ns": f"case{next(numbers)}", "url": people.server.url}

    def moment(match: re.Match[str]) -> str:
        seconds = moments[match[1]] + int(match[2] or 0)
        if match[1] == "iso":
            return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return str(seconds)

    def filled(text: str) -> str:
        text = re.sub(r"<([a-z_]+)>", lambda m: words.get(m[1], m[0]), text)
        return re.sub(r"<(t|now|iso)([+-]\d+)?>", moment, text)

    for step in case["step"]:
        method, _, target = filled(step["request"]).partition(" ")
        user = step.get("by", "member")
        headers = {k: filled(v) for k, v in step.get("headers", {}).items()}
        if user != "nobody":
            headers["X-Auth-Token"] = people.token(user)
        body = filled(step["body"]).encode() if "body" in step else None
        if body is not None and step.get("gzip"):
            body = gzip.compress(body)
        reply = client.request(method, target, content=body, headers=headers)
        shown = f"{method} {target} -> {reply.status_code} {reply.text}"
        assert reply.status_code == step["status"], shown
        if target.startswith("/v2/"):
            check_v2_headers(reply.headers, reply.content, step)
        else:
            check_headers(reply.headers, reply.content, step, method)
        for name, value in step.get("reply_headers", {}).items():
            assert agrees(filled(value), reply.headers.get(name)), f"{shown}: {name}"
        if "reply" in step:
            assert agrees(json.loads(filled(step["reply"])), reply.json()), shown
        elif method != "HEAD" and "save" not in step:
            assert reply.content == b"", shown
        for name, path in step.get("save", {}).items():
            found = reply.json()
            for key in path.split("."):
                found = found[int(key)] if key.isdecimal() else found[key]
            words[name] = found


def check_headers(headers: Any, content: bytes, step: dict[str, Any], method: str) -> None:
    """What §4.3.1 says of every reply."""
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers["Date"])
    if step["status"] == 204:
        assert "Content-Type" not in headers
        assert "Location" not in headers
        return
    assert headers["Content-Type"] == "application/json; charset=UTF-8"
    if method == "HEAD":
        assert int(headers["Content-Length"]) > 0
        return
    assert int(headers["Content-Length"]) == len(content)
    if step["status"] >= 400:
        (fault,) = json.loads(content).values()
        assert fault["code"] == step["status"]
        assert fault["internal_code"] == headers["X-Request-Id"]


def check_v2_headers(headers: Any, content: bytes, step: dict[str, Any]) -> None:
    """What 004 and 002 say of every reply."""
    if step["status"] == 204:
        return
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    if step["status"] >= 400:
        error = json.loads(content)["error"]
        assert error["code"] == step["status"]
        assert set(error) == {"code", "message", "title"}


def agrees(expected: Any, found: Any) -> bool:
    """Whether a reply is the expected one, where ``…`` stands for any text."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() == found.keys() and all(
            agrees(value, found[key]) for key, value in expected.items()
        )
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(agrees, expected, found))
    if isinstance(expected, str) and isinstance(found, str):
        pattern = ".*".join(map(re.escape, expected.split("…")))
        return re.fullmatch(pattern, found, re.DOTALL) is not None
    if expected == "…":
        return True
    return type(expected) is type(found) and bool(expected == found)
