"""The console over a socket, without a browser: who is let in, and what is kept out."""

import csv
import io
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest

from console.conftest import Site
from console.pages import NOT_YET, NOWHERE, PAGES, Page, require, signed_in_pages, skip_if_not_yet
from console.visitor import COOKIE, Document, Visitor
from heliometer.identity.model import ROLES, Permission

Visitors = Callable[[str], Visitor]

HEADERS = {
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}
GARBAGE = [
    "", "\0", " ", "-1", "0", "9" * 25, "1e400", "NaN", "٣", "2026-99-99", "2026-01-01T00:00Z",
    "<img src=x onerror=alert(1)>", "a" * 5000, "%", "'\"`", "../../etc/passwd", "{", "[]", "null",
    "avg(", "avg(ns, 300) > 1", "\u202e\u2066", "🙂", NOWHERE, "k=v,k=v", "a:b,", "\r\nX: y",
]  # fmt: skip
WORST = ["\0", "9" * 25, "-1", "NaN", "٣", "<img src=x onerror=alert(1)>"]
PATH_GARBAGE = ["%00", "..", "%2e%2e", "%ff", "a" * 3000, "%3Cimg%3E", "'", "🙂", "a%0d%0ab", "-1"]
POSTS = [page for page in signed_in_pages() if page.method == "POST"]
GETS = [page for page in signed_in_pages() if page.method == "GET"]


def name_of(page: Page) -> str:
    return page.operation.path or "/"


def check_headers(reply: httpx.Response) -> None:
    """The headers that every page and every refusal has."""
    for name, value in HEADERS.items():
        assert reply.headers.get(name) == value, f"{reply.url} {name}"
    policy = dict(
        part.strip().split(" ", 1)
        for part in reply.headers["content-security-policy"].split(";")
        if part.strip()
    )
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"


def check_page(reply: httpx.Response, status: int = 200) -> Document:
    """A page in order: its headers, one heading, and no script or style inside it."""
    assert reply.status_code == status, reply.text[-600:]
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    check_headers(reply)
    document = Document(reply.text)
    assert len(document.headings) == 1, f"{reply.url}: {document.headings}"
    assert document.headings[0].strip()
    assert not document.loose, f"{reply.url}: {document.loose}"
    ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(ids) == len(set(ids)), f"{reply.url}: {sorted(ids)}"
    for tag, attributes in document.elements:
        inline = [name for name in attributes if name == "style" or name.startswith("on")]
        assert not inline, f"{reply.url}: <{tag} {inline}>"
        assert tag != "style", f"{reply.url}: <style>"
        if tag == "script" and attributes.get("type", "") not in ("application/json",):
            assert attributes.get("src", "").startswith("/console/static/"), reply.url
        if tag == "label" and "for" in attributes:
            assert attributes["for"] in ids, f"{reply.url}: label for {attributes['for']}"
        for name in ("aria-labelledby", "aria-describedby", "aria-controls"):
            for part in attributes.get(name, "").split():
                assert part in ids, f"{reply.url}: {name} {part}"
    return document


def belongings(site: Site, user: str = "member", project: str = "shop") -> dict[str, Any]:
    """What a project has, as the API tells it."""
    with site.client(user, project) as client:
        paths = ["/v1.1/alarms", "/v1.1/notification-methods", "/v1.1/subscriptions",
                 "/v1.1/endpoints", "/v2/alarms", "/v1.1/metering"]  # fmt: skip
        return {path: client.get(path).text for path in paths}


def is_good(site: Site, token: str) -> bool:
    """Whether the API takes a token."""
    return httpx.get(f"{site.url}/v1.1/alarms", headers={"X-Auth-Token": token}).status_code == 200


# -- signing in and out ---------------------------------------------------------------------------


def test_the_sign_in_page_is_in_order(visitor: Visitor) -> None:
    document = check_page(visitor.get("/console/sign-in"))
    assert document.posts == ["/console/sign-in"]
    assert not document.all("script")


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-Proto": "https"}])
def test_the_cookie_is_kept_from_scripts_and_other_sites(
    visitor: Visitor, headers: dict[str, str]
) -> None:
    fields = {"user": "member", "password": "secret"}
    reply = visitor.post("/console/sign-in", fields, **headers)
    assert (reply.status_code, reply.headers["location"]) == (303, "/console")
    (cookie,) = [c for c in reply.headers.get_list("set-cookie") if c.startswith(COOKIE)]
    pair, *flags = cookie.split("; ")
    assert re.fullmatch(rf"{COOKIE}=[\w-]{{43}}", pair)
    expected = {"HttpOnly", "Path=/console", "SameSite=lax"}
    assert set(flags) == expected | ({"Secure"} if headers else set())


def test_a_wrong_password_keeps_the_user_and_says_so(visitor: Visitor) -> None:
    reply = visitor.sign_in("member", "wrong", next="/console/metrics", project='"><i>')
    document = check_page(reply, 401)
    fields = document.forms[0].fields
    assert (fields["user"], fields["project"], fields["password"]) == ("member", '"><i>', "")
    assert fields["next"] == "/console/metrics"
    assert "The user or the password is not right." in reply.text
    assert COOKIE not in visitor.http.cookies


def test_nobody_can_tell_from_the_answer_which_users_there_are(visitor: Visitor) -> None:
    unknown = visitor.sign_in("noname", "wrong").text.replace("noname", "member")
    assert visitor.sign_in("member", "wrong").text == unknown


def test_signing_in_to_a_project_by_name_and_to_a_foreign_one(visitor: Visitor) -> None:
    refused = visitor.sign_in("both", project="waste")
    assert "does not belong to a project" in refused.text
    check_page(refused, 401)
    assert visitor.sign_in("both", project="stock").status_code == 303
    assert visitor.heading() == "stock"


@pytest.mark.parametrize("page", GETS, ids=name_of)
def test_who_is_not_signed_in_is_led_to_the_sign_in_page_and_back(
    visitor: Visitor, signed_in: Visitors, page: Page
) -> None:
    path = f"{page.path()}?q=a%26b&q=%C3%BC"
    reply = visitor.get(path)
    assert reply.status_code == 303
    target = urlsplit(reply.headers["location"])
    assert (target.netloc, target.path) == ("", "/console/sign-in")
    assert parse_qs(target.query)["next"] == [path]
    again = signed_in("member").get(reply.headers["location"])
    assert (again.status_code, again.headers["location"]) == (303, path)


@pytest.mark.parametrize("page", GETS, ids=name_of)
def test_scripts_of_who_is_signed_out_meanwhile_are_told(visitor: Visitor, page: Page) -> None:
    reply = visitor.get(page.path(), **{"HX-Request": "true"})
    assert reply.status_code == 204
    assert reply.headers["hx-redirect"].startswith("/console/sign-in?next=")
    reply = visitor.get(page.path(), Accept="application/json")
    assert (reply.status_code, reply.json()) == (401, {"signed_out": True})


@pytest.mark.parametrize("page", POSTS, ids=name_of)
def test_a_form_of_who_is_not_signed_in_goes_to_the_sign_in_page(
    visitor: Visitor, page: Page
) -> None:
    reply = visitor.post(page.path(), {"name": "x"})
    assert (reply.status_code, reply.headers["location"]) == (303, "/console/sign-in")


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example", "https://evil.example/", "http:evil.example", "javascript:alert(1)",
        "/console/../x", "/console/%2e%2e/x", "/console/.%2E/x", "/console/a/../../x",
        "/console/..", "/console/..//evil.example", "/console/..\\x", "/console\\..\\x",
        "/\\evil.example", "\t//evil.example", "/\t/evil.example", "/console/.\t./x",
        "/console/\n../x", "/consolation", "/console@evil.example", "/docs", "console/x",
        "/console/\r\nSet-Cookie: a=b",
    ],
)  # fmt: skip
def test_a_link_to_the_sign_in_page_never_leads_out_of_the_console(
    visitor: Visitor, site: Site, target: str
) -> None:
    def check(reply: httpx.Response) -> None:
        assert reply.status_code == 303
        # As browsers read it: no tabs and line feeds, backslashes are slashes, and dots may be
        # written in hexadecimal.
        location = re.sub(r"[\t\r\n]", "", reply.headers["location"]).replace("\\", "/")
        location = re.sub("%2e", ".", location, flags=re.IGNORECASE)
        resolved = urlsplit(urljoin(f"{site.url}/console/sign-in", location))
        assert f"{resolved.scheme}://{resolved.netloc}" == site.url
        assert resolved.path == "/console" or resolved.path.startswith("/console/")
        assert "a=b" not in reply.headers.get("set-cookie", "")

    check(visitor.sign_in("member", next=target))
    check(visitor.http.get("/console/sign-in", params={"next": target}))


def test_signing_out_ends_the_token(visitor: Visitor, site: Site) -> None:
    visitor.sign_in("leaver")
    token, cookies = visitor.token, dict(visitor.http.cookies)
    assert is_good(site, token)
    reply = visitor.send("/console/sign-out")
    assert (reply.status_code, reply.headers["location"]) == (303, "/console/sign-in")
    assert COOKIE not in visitor.http.cookies
    assert not is_good(site, token)
    visitor.http.cookies.update(cookies)
    assert visitor.get().status_code == 303


def test_signing_out_everywhere_ends_other_sessions_and_tokens_of_that_user(
    visitor: Visitor, site: Site
) -> None:
    visitor.sign_in("leaver")
    api = site.server.token("leaver", "shop", "secret")
    foreign = site.server.token("member", "shop", "secret")
    with Visitor(site.url) as elsewhere, Visitor(site.url) as single:
        elsewhere.sign_in("leaver")
        single.sign_in("leaver")
        single.send("/console/sign-out")
        assert elsewhere.get().status_code == 200
        assert is_good(site, api), "signing out ends only its own session"
        visitor.send("/console/sign-out", everywhere="1")
        assert elsewhere.get().status_code == 303
    assert not is_good(site, api)
    assert is_good(site, foreign)


def test_guessing_is_slowed(visitor: Visitor, signed_in: Visitors) -> None:
    other = signed_in("member")
    replies = [visitor.sign_in("guessed", f"guess {i}") for i in range(8)]
    statuses = [reply.status_code for reply in replies]
    assert statuses == [401] * 5 + [429] * 3
    check_page(replies[-1], 429)
    assert "Too many sign-ins have failed." in replies[-1].text
    assert visitor.sign_in("guessed").status_code == 429, "a right guess too"
    assert other.get().status_code == 200


# -- forms of other sites -------------------------------------------------------------------------

FOREIGN = {
    "another site, as it says": {"Sec-Fetch-Site": "cross-site"},
    "another host of the site": {"Sec-Fetch-Site": "same-site"},
    "another origin": {"Origin": "https://evil.example"},
    "another origin that begins alike": {"Origin": "http://127.0.0.1.evil.example"},
    "no origin": {"Origin": "null"},
}
OTHER_POSTS = ["/console/sign-out", "/console/project"]


@pytest.mark.parametrize("path", [*OTHER_POSTS, *(page.path() for page in POSTS)])
def test_a_form_that_is_not_ours_is_refused_and_changes_nothing(
    signed_in: Visitors, site: Site, path: str
) -> None:
    visitor = signed_in("admin")
    token, before = visitor.token, belongings(site)
    proof = visitor.proof()
    fields = {"name": "forged", "project": site.projects["shop"], "everywhere": "1"}
    proofs = {"none": {}, "empty": {"proof": ""}, "of another session": {
        "proof": signed_in("member").proof()}, "not ASCII": {"proof": "ü" * 40},
        "upper case": {"proof": proof.upper()}, "cut short": {"proof": proof[:-1]}}  # fmt: skip
    for what, wrong in proofs.items():
        reply = visitor.post(path, {**fields, **wrong})
        check_page(reply, 403)
        assert "The form is of another session." in reply.text, what
    for headers in FOREIGN.values():
        reply = visitor.post(path, {**fields, "proof": proof}, **headers)
        check_page(reply, 403)
        assert "another site" in reply.text, headers
    in_url = visitor.post(f"{path}?proof={proof}", fields)
    assert in_url.status_code == 403
    assert (visitor.token, belongings(site)) == (token, before)
    assert is_good(site, token)
    assert visitor.get(path).status_code in (200, 303, 404, 405), "nor does a link"
    assert is_good(site, token)


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN.keys())
def test_other_sites_cannot_sign_anybody_in(visitor: Visitor, headers: dict[str, str]) -> None:
    fields = {"user": "member", "password": "secret"}
    check_page(visitor.post("/console/sign-in", fields, **headers), 403)
    assert COOKIE not in visitor.http.cookies


@pytest.mark.parametrize("own", [{"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}])
def test_forms_of_the_console_are_taken(site: Site, own: dict[str, str]) -> None:
    for headers in (own, {"Origin": site.url}, {**own, "Origin": site.url}):
        with Visitor(site.url, **headers) as visitor:
            assert visitor.sign_in("both").status_code == 303
            assert visitor.send("/console/sign-out").status_code == 303


# -- pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_in_order(signed_in: Visitors, path: str) -> None:
    reply = require(signed_in("admin").get(path), path)
    document = check_page(reply)
    assert document.all("html")[0]["lang"] == "en"
    (current,) = [a for a in document.all("a") if a.get("aria-current") == "page" and a.get("href")]
    assert path.startswith(current["href"])
    for form in document.forms:
        if form.method.lower() == "post":
            assert form.fields.get("proof") == signed_in("admin").proof(), form.action
    for image in document.all("img"):
        assert "alt" in image


def test_pages_that_are_there_are_not_marked_as_missing(signed_in: Visitors) -> None:
    missing = {path for path in PAGES if signed_in("admin").get(path).status_code == 404}
    assert missing <= NOT_YET


@pytest.mark.parametrize("user", ["reader", "member", "admin"])
def test_every_link_of_the_navigation_leads_somewhere(signed_in: Visitors, user: str) -> None:
    visitor = signed_in(user)
    document = Document(visitor.get().text)
    inside = {a["href"] for a in document.all("a") if a.get("href", "").startswith("/console")}
    assert ("/console/people" in inside) is (user == "admin")
    for link in inside:
        reply = visitor.get(link)
        assert reply.status_code == 200 or link.partition("?")[0] in NOT_YET, link
    for asset in [*document.all("script"), *document.all("link"), *document.all("img")]:
        assert visitor.get(asset.get("src") or asset["href"]).status_code == 200


@pytest.mark.parametrize("path", ["/console/nowhere", "/console/nowhere/else", "/console/static"])
def test_what_is_not_there_is_a_page(signed_in: Visitors, visitor: Visitor, path: str) -> None:
    for asking in (visitor, signed_in("reader")):
        reply = asking.get(path)
        check_page(reply, 404)
        assert "There is nothing here" in reply.text
        check_page(asking.post(path, {}), 404)


def test_other_refusals_are_pages(signed_in: Visitors, visitor: Visitor) -> None:
    wrong_method = visitor.http.delete("/console/sign-in")
    check_page(wrong_method, 405)
    assert wrong_method.headers["allow"] == "GET, HEAD, POST"
    check_page(visitor.http.put("/console"), 405)
    check_page(visitor.get("/console", Padding="x" * 70_000), 431)
    packed = {"Content-Encoding": "br"}
    check_page(signed_in("reader").http.post("/console/sign-in", headers=packed), 415)


def test_head_is_get_without_the_page(signed_in: Visitors) -> None:
    reply = signed_in("reader").http.head("/console")
    assert (reply.status_code, reply.content) == (200, b"")
    check_headers(reply)


@pytest.mark.parametrize(
    "path", ["/console/sign-in", *OTHER_POSTS, *(page.path() for page in POSTS)]
)
def test_a_form_that_is_too_large_is_refused(signed_in: Visitors, path: str) -> None:
    visitor = signed_in("admin")
    reply = visitor.post(path, {"proof": visitor.proof(), "name": "x" * (256 << 10)})
    check_page(reply, 413)
    assert visitor.get().status_code == 200


@pytest.mark.parametrize("path", ["/console/sign-in", *OTHER_POSTS, "/console/alarms/new"])
def test_a_form_with_too_many_fields_is_refused(signed_in: Visitors, path: str) -> None:
    visitor = signed_in("admin")
    many = "&".join([*(f"f{i}=" for i in range(5000)), f"proof={visitor.proof()}"])
    reply = visitor.http.post(path, content=many)
    assert reply.status_code in (400, 413)
    check_page(reply, reply.status_code)


def test_what_is_said_of_a_form_that_is_too_large_is_about_forms(visitor: Visitor) -> None:
    reply = visitor.sign_in("member", "x" * (256 << 10))
    check_page(reply, 413)
    assert "measurements" not in reply.text


# -- garbage --------------------------------------------------------------------------------------


def check_sane(reply: httpx.Response, what: str) -> None:
    """Some answer that is not a failure of ours."""
    assert reply.status_code < 500, f"{what}: {reply.text[-600:]}"
    assert "x" not in reply.headers, what
    if reply.headers.get("content-type", "").startswith("text/html"):
        check_headers(reply)
        assert "<img src=x" not in reply.text, what
        if "img src=x" in reply.text:
            assert not Document(reply.text).loose, what


@pytest.fixture(scope="module")
def things(site: Site) -> list[str]:
    """Ids of what the vandal's project has, of every kind."""
    wanted = {
        "alarm": {"name": "own", "expression": "avg(own, 300) > 1"},
        "notification_method": {"name": "own", "type": "EMAIL", "address": "joe@mail.com"},
    }
    found = [NOWHERE]
    with site.client("vandal", "waste") as client:
        for kind, document in wanted.items():
            reply = client.post(f"/v1.1/{kind.replace('_', '-')}s", json={kind: document})
            assert reply.status_code == 201, reply.text
            found.append(reply.json()[kind]["id"])
        reply = client.post("/v1.1/endpoints")
        assert reply.status_code == 201, reply.text
        found.append(reply.json()["endpoint"]["id"])
    return found


def existing(visitor: Visitor, page: Page, things: list[str]) -> str:
    """The page's path with the id of something that it shows, if anything is."""
    if page.varies:
        for thing in things:
            if visitor.get(page.path(thing)).status_code == 200:
                return page.path(thing)
    return page.path()


@pytest.mark.parametrize("page", GETS, ids=name_of)
def test_no_page_fails_on_garbage_in_its_address(
    signed_in: Visitors, things: list[str], page: Page
) -> None:
    visitor = signed_in("vandal")
    path = existing(visitor, page, things)
    fields = page.fields or ("q",)
    sent: list[dict[str, Any]] = [dict.fromkeys(fields, text) for text in GARBAGE]
    sent += [{name: text} for name in fields for text in WORST]
    sent += [{name: ["1", "x", ""] for name in fields}]
    for params in sent[::3]:
        reply = visitor.http.get(path, params=params)
        check_sane(reply, f"{path} {params}"[:300])
    for query in ("%ff=%ff", "&&==", "%", "a" * 20_000, ";".join(fields)):
        check_sane(visitor.get(f"{path}?{query}"), query[:100])
    for part in PATH_GARBAGE if page.varies else ():
        for headers in ({}, {"HX-Request": "true"}, {"Accept": "application/json"}):
            check_sane(visitor.get(page.path(part), **headers), part[:100])


@pytest.mark.parametrize("page", POSTS, ids=name_of)
def test_no_form_fails_on_garbage(signed_in: Visitors, things: list[str], page: Page) -> None:
    visitor = signed_in("vandal")
    proof = {"proof": visitor.proof()}
    fields = page.fields or ("name",)
    sent: list[dict[str, Any]] = [{}, *(dict.fromkeys(fields, text) for text in GARBAGE)]
    sent += [{name: text} for name in fields for text in WORST]
    sent += [{name: ["1", "x", ""] for name in fields}]
    for form in sent[:: 9 if page.varies else 3]:
        reply = visitor.http.post(page.path(), data={**form, **proof})
        check_sane(reply, f"{page.path()} {form}"[:300])
        location = reply.headers.get("location", "/console")
        assert re.match(r"/console([/?#]|$)", location), location
    for body in (b"\xff\xfe", b"%ff=%ff", b"&&&===", b"\0", b'{"proof": 1}', b"a" * 100_000):
        check_sane(visitor.http.post(page.path(), content=body), repr(body[:20]))
    for part in PATH_GARBAGE if page.varies else ():
        check_sane(visitor.post(page.path(part), proof), part[:100])
    for thing in things if page.varies and "delete" not in page.path() else ():
        for form in sent[: len(GARBAGE) : 4]:
            reply = visitor.http.post(page.path(thing), data={**form, **proof})
            check_sane(reply, f"{page.path(thing)} {form}"[:300])


@pytest.mark.parametrize("text", GARBAGE[::2])
def test_neither_do_signing_in_and_cookies(
    visitor: Visitor, signed_in: Visitors, text: str
) -> None:
    fields = {"user": text, "password": text, "project": text, "next": text}
    reply = visitor.post("/console/sign-in", fields)
    check_sane(reply, text)
    assert reply.status_code in (401, 422, 429)
    check_sane(visitor.http.get("/console/sign-in", params={"next": text}), text)
    cookie = text.encode()[:3000].translate(None, b"\r\n\0").strip()
    for given in (cookie, b"\xff" * 43, b"x" * 43, b'"' + cookie):
        name = COOKIE.encode()
        jar = name + b"=" + given + b"; heliometer_said=" + given
        assert visitor.http.get("/console", headers={b"Cookie": jar}).status_code == 303
    reader = signed_in("reader")
    switch = reader.send("/console/project", project=text, section=text)
    check_sane(switch, text)
    said = f"{COOKIE}={reader.token}; heliometer_said=".encode() + cookie
    check_sane(reader.http.get("/console", headers={b"Cookie": said}), text)


# -- projects and roles ---------------------------------------------------------------------------


def test_changing_the_project(visitor: Visitor, site: Site) -> None:
    visitor.sign_in("both")
    document = Document(visitor.get().text)
    assert [option["value"] for option in document.all("option")] == [
        site.projects["shop"], site.projects["stock"],
    ]  # fmt: skip
    assert visitor.heading() == "shop"
    old = visitor.token
    reply = visitor.send("/console/project", project=site.projects["stock"], section="metrics")
    assert (reply.status_code, reply.headers["location"]) == (303, "/console/metrics")
    assert visitor.heading() == "stock"
    assert visitor.token != old
    assert not is_good(site, old)


@pytest.mark.parametrize("section", ["//evil.example", "../docs", "", "a/b", "metrics\r\n"])
def test_changing_the_project_stays_in_the_console(
    visitor: Visitor, site: Site, section: str
) -> None:
    visitor.sign_in("both")
    reply = visitor.send("/console/project", project=site.projects["stock"], section=section)
    assert (reply.status_code, reply.headers["location"]) == (303, "/console")


@pytest.mark.reliability(16)
def test_a_foreign_project_is_refused(signed_in: Visitors, site: Site) -> None:
    visitor = signed_in("member")
    for project in (site.projects["stock"], "stock", NOWHERE, ""):
        reply = visitor.send("/console/project", project=project)
        check_page(reply, reply.status_code)
        assert reply.status_code in (401, 403, 404)
    assert visitor.heading() == "shop"


def test_a_reader_sees_no_forms_and_is_refused_theirs(signed_in: Visitors, site: Site) -> None:
    visitor, before = signed_in("reader"), belongings(site)
    for page in GETS:
        if page.varies or page.permission is not Permission.READ:
            continue
        reply = visitor.get(page.path())
        if reply.headers.get("content-type", "").startswith("text/html"):
            posts = set(Document(reply.text).posts)
            reads = {other.path() for other in POSTS if other.permission is Permission.READ}
            assert posts <= {*OTHER_POSTS, *reads}, page.path()
    proof = visitor.proof()
    for page in POSTS:
        if page.permission not in ROLES["reader"]:
            reply = visitor.post(page.path(), {"proof": proof, "name": "forged"})
            check_page(reply, 403)
            assert "does not allow you to" in reply.text, page.path()
    assert belongings(site) == before


@pytest.mark.parametrize("page", [*GETS, *POSTS], ids=lambda p: f"{p.method} {p.operation.path}")
def test_pages_ask_for_the_permission_that_they_need(signed_in: Visitors, page: Page) -> None:
    """What only an administrator may do is refused to members, and the other way round."""
    for role in ("reader", "member"):
        visitor = signed_in(role)
        proof = {"proof": visitor.proof()}
        reply = visitor.get(page.path()) if page.method == "GET" else visitor.post(
            page.path(), proof
        )  # fmt: skip
        assert (reply.status_code == 403) is (page.permission not in ROLES[role]), reply.text


@pytest.mark.reliability(16)
def test_alarms_of_another_project_do_not_exist(signed_in: Visitors, site: Site) -> None:
    skip_if_not_yet("/console/alarms", signed_in("member").get("/console/alarms").status_code)
    with site.client("member", "shop") as client:
        alarm = {"name": "secret of shop", "expression": "avg(shop, 300) > 1"}
        reply = client.post("/v1.1/alarms", json={"alarm": alarm})
        assert reply.status_code == 201, reply.text
        identifier = reply.json()["alarm"]["id"]
    before = belongings(site)
    stranger, owner = signed_in("stranger"), signed_in("member")
    assert "secret of shop" in owner.get("/console/alarms").text
    proof = stranger.proof()
    pages = [p for p in (*GETS, *POSTS) if p.operation.path.startswith("/alarms") and p.varies]
    assert pages
    for page in pages:
        path = page.path(identifier)
        if page.method == "GET":
            assert owner.get(path).status_code == 200, path
            reply = stranger.get(path)
        else:
            reply = stranger.post(path, {"proof": proof, "name": "n", "expression": "ns > 1"})
        assert reply.status_code == 404, path
        assert "secret of shop" not in reply.text
        same = stranger.get(page.path(NOWHERE)) if page.method == "GET" else None
        if same is not None:
            assert same.status_code == 404
    assert "secret of shop" not in stranger.get("/console").text
    assert "secret of shop" not in stranger.get("/console/alarms").text
    assert belongings(site) == before


# -- files ----------------------------------------------------------------------------------------


def assets(reply: httpx.Response) -> list[str]:
    """The files that a page loads."""
    document = Document(reply.text)
    found = [tag["src"] for tag in (*document.all("script"), *document.all("img"))]
    return sorted({*found, *(tag["href"] for tag in document.all("link"))})


def test_files_are_kept_by_browsers_until_they_change(
    signed_in: Visitors, visitor: Visitor
) -> None:
    urls = assets(signed_in("reader").get())
    assert {url.partition("?")[0].rpartition(".")[2] for url in urls} == {"css", "js", "svg"}
    for url in urls:
        reply = visitor.get(url)
        assert reply.status_code == 200
        assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert re.fullmatch(r'"[0-9a-f]{16}"', reply.headers["etag"])
        assert url.endswith(f"?v={reply.headers['etag'][1:-1]}")
        assert reply.headers["vary"] == "Accept-Encoding"


def test_pages_and_files_are_compressed_for_who_can_read_that(
    signed_in: Visitors, visitor: Visitor
) -> None:
    page = signed_in("reader").get()
    for path in ["/console", *assets(page)]:
        asking = signed_in("reader") if path == "/console" else visitor
        packed = asking.get(path, **{"Accept-Encoding": "gzip"})
        plain = asking.get(path, **{"Accept-Encoding": "identity"})
        assert packed.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in plain.headers
        assert "Accept-Encoding" in packed.headers["vary"]
        assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
        if path != "/console":
            assert packed.content == plain.content


@pytest.mark.parametrize(
    "name",
    [
        "..%2f__init__.py", "..%2fstatic%2fconsole.css", "%2e%2e/templates/base.html",
        "..%5csession.py", "%2fetc%2fpasswd", "console.css%00", "console.css/", "%00.css", ".css",
        "", "nothing.css", "console.py", "__init__.py", "a" * 100_00 + ".css",
        "%ff.css", "console.css%2f..%2fconsole.js",
    ],
)  # fmt: skip
def test_nothing_but_the_files_is_given_out(visitor: Visitor, name: str) -> None:
    request = httpx.Request("GET", f"{visitor.http.base_url}".rstrip("/"))
    request.url = request.url.copy_with(raw_path=f"/console/static/{name}".encode())
    reply = visitor.http.send(request)
    if name == "console.css/":
        assert reply.status_code == 200, "a final slash is nothing, as everywhere"
    else:
        check_page(reply, 404)


def test_the_first_load_is_small(signed_in: Visitors, visitor: Visitor) -> None:
    packed = {"Accept-Encoding": "gzip"}
    for asking, path in ((visitor, "/console/sign-in"), (signed_in("reader"), "/console")):
        page = asking.get(path, **packed)
        replies = [page, *(asking.get(url, **packed) for url in assets(page) if "uPlot" not in url)]
        sizes = {str(reply.url.path): int(reply.headers["content-length"]) for reply in replies}
        assert sum(sizes.values()) <= 100 * 1024, sizes


@pytest.mark.reliability(22)
def test_a_spreadsheet_finds_no_formulas_in_a_table(signed_in: Visitors, site: Site) -> None:
    formulas = [f"{first}1+1" for first in "=+-@＝＋－＠"]
    with site.client("member", "shop") as client:
        posted = [
            {"namespace": "sheet", "dimensions": {"cell": text}, "value": 1}
            for text in (*formulas, "plain")
        ]
        assert client.post("/v1.1/metrics", json=posted).status_code == 204
    reply = signed_in("member").get("/console/metrics/table.csv?ns=sheet&range=1h")
    assert reply.headers["content-type"].startswith("text/csv")
    cells = [row["cell"] for row in csv.DictReader(io.StringIO(reply.text))]
    assert sorted(cells) == sorted([*(f"'{text}" for text in formulas), "plain"])
