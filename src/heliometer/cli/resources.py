"""What the commands for alarms and notifications share: requests, pages, names and output."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import click
import msgspec

from heliometer.cli.client import Client
from heliometer.cli.errors import CommandError
from heliometer.cli.responses import decode
from heliometer.cli.table import table

PAGE = 500


def send(client: Client, method: str, path: str, document: Any = None) -> Any:
    """A request with a JSON body, and the JSON of its answer; ``None`` where there is none."""
    content = None if document is None else msgspec.json.encode(document)
    headers = {"Content-Type": "application/json"} if content is not None else None
    response = client.call(method, path, content=content, headers=headers)
    return decode(response) if response.content else None


def pages(
    client: Client, path: str, element: str, limit: int, query: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """Up to ``limit`` items of a list, page by page."""
    asked = {**(query or {}), "limit": str(min(limit, PAGE))}
    while True:
        page = client.get(path, asked)
        for item in page[element]:
            if limit == 0:
                return
            limit -= 1
            yield item
        following = [each["href"] for each in page.get("links", []) if each.get("rel") == "next"]
        # Only the marker is taken from the link: the token must not go wherever a reply says.
        markers = parse_qs(urlsplit(following[0]).query).get("marker") if following else None
        if not markers or limit == 0:
            return
        asked["marker"] = markers[0]


def named(client: Client, path: str, element: str, text: str) -> dict[str, Any]:
    """The one item of a list with that id or name; raises CommandError for none or several."""
    found = [i for i in client.get(path)[element] if text in (i["id"], i["name"])]
    if len(found) == 1:
        return dict(found[0])
    what = element.rstrip("s").replace("_", " ")
    if not found:
        raise CommandError(f"there is no {what} {text!r}")
    ids = ", ".join(item["id"] for item in found)
    raise CommandError(f"{len(found)} are named {text!r}; use an id: {ids}")


def below(path: str, identifier: str) -> str:
    """The path of one item of a collection, with its id percent-encoded."""
    return f"{path}/{quote(identifier, safe='')}"


def show_table(
    items: Sequence[Mapping[str, Any]], columns: Mapping[str, str], nothing: str, *, as_json: bool
) -> None:
    """Print items as a table (heading → field), as JSON, or that there is nothing."""
    if as_json:
        show_json(list(items))
    elif not items:
        click.echo(nothing, err=True)
    else:
        rows = [[_cell(item.get(field)) for field in columns.values()] for item in items]
        click.echo(table(list(columns), rows, "<" * len(columns)))


def show_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def time_of(text: str) -> str:
    """A time of the API as the other commands show it."""
    return text[:19].replace("T", " ") + "Z" if text else ""


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else " " for c in text)
