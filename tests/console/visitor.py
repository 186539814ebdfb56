"""A visitor of the console without a browser, and what it can see of a page."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from types import TracebackType

import httpx

COOKIE = "heliometer_session"
WITHOUT_END = frozenset(
    ["area", "base", "br", "col", "hr", "img", "input", "link", "meta", "path", "source", "wbr"]
)


@dataclass
class Form:
    """A form of a page."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)


class Document(HTMLParser):
    """A page as its elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.forms: list[Form] = []
        self.headings: list[str] = []
        """The texts of h1."""
        self.loose: list[str] = []
        """Ends without a beginning and the other way round."""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.loose += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.elements.append((tag, given))
        if tag not in WITHOUT_END:
            self._open.append(tag)
        if tag == "h1":
            self.headings.append("")
        if tag == "form":
            self.forms.append(Form(given.get("method", "get"), given.get("action", "")))
        elif "form" in self._open and "name" in given:
            self.forms[-1].fields[given["name"]] = given.get("value", "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in WITHOUT_END:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in WITHOUT_END:
            return
        if self._open and self._open[-1] == tag:
            self._open.pop()
        else:
            self.loose.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        if "h1" in self._open:
            self.headings[-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def posts(self) -> list[str]:
        """Where its forms are sent to."""
        return [form.action for form in self.forms if form.method.lower() == "post"]


class Visitor:
    """An HTTP client that keeps cookies, and goes only where it is told to."""

    def __init__(self, url: str, **headers: str) -> None:
        self.http = httpx.Client(base_url=url, headers=headers, timeout=30)

    def __enter__(self) -> "Visitor":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.close()

    def get(self, path: str = "/console", **headers: str) -> httpx.Response:
        """A page."""
        return self.http.get(path, headers=headers)

    def post(self, path: str, fields: dict[str, str], **headers: str) -> httpx.Response:
        """Send a form as it is given."""
        return self.http.post(path, data=fields, headers=headers)

    def send(self, path: str, **fields: str) -> httpx.Response:
        """Send a form with the proof that it is ours."""
        return self.post(path, {"proof": self.proof(), **fields})

    def sign_in(self, user: str, password: str = "secret", **more: str) -> httpx.Response:
        """What the form of the sign-in page does."""
        return self.post("/console/sign-in", {"user": user, "password": password, **more})

    def proof(self) -> str:
        """What the forms of this session carry."""
        page = self.get()
        found = re.findall(r'name="proof" value="([0-9a-f]{40})"', page.text)
        assert found, page.text[:500]
        assert len(set(found)) == 1
        return str(found[0])

    @property
    def token(self) -> str:
        """The session's token."""
        return str(self.http.cookies[COOKIE])

    def heading(self, path: str = "/console") -> str:
        """What a page is called."""
        (text,) = Document(self.get(path).text).headings
        return text
