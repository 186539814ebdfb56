"""The pages of members for admins, and of all projects and users for operators."""

from collections.abc import Callable

import pytest

from console.conftest import Site
from console.test_console_pages import check_page
from console.visitor import Visitor

Visitors = Callable[[str], Visitor]


def user_id(site: Site, name: str) -> str:
    for line in site.server.command("user", "list").stdout.splitlines():
        if line.split()[2:3] == [name]:
            return line.split()[0]
    raise AssertionError(name)


def test_an_admin_sees_the_members_of_the_project_and_nobody_else(signed_in: Visitors) -> None:
    reply = signed_in("admin").get("/console/people")
    check_page(reply)
    assert "leaver" in reply.text
    assert "stranger" not in reply.text
    assert "stock" not in reply.text


@pytest.mark.parametrize("who", ["reader", "member", "admin"])
def test_only_operators_manage_users_and_projects(
    site: Site, signed_in: Visitors, who: str
) -> None:
    visitor = signed_in(who)
    stranger, stock = user_id(site, "stranger"), site.projects["stock"]
    for path in (f"users/{stranger}", f"projects/{stock}", f"users/{'0' * 32}"):
        check_page(visitor.get(f"/console/people/{path}"), 403)
    for path in ("users", "projects", f"users/{stranger}/delete", f"users/{stranger}/password",
                 f"projects/{stock}/delete", f"projects/{stock}/disable"):  # fmt: skip
        reply = visitor.send(f"/console/people/{path}", name="stock", password="some words")
        assert reply.status_code == 403
    check_page(visitor.get("/console/people"), 200 if who == "admin" else 403)


def test_an_admin_changes_and_removes_members(site: Site, signed_in: Visitors) -> None:
    admin = signed_in("admin")
    guest, stranger = user_id(site, "guest"), user_id(site, "stranger")
    one = f"/console/people/members/{guest}"
    for foreign in (stranger, "0" * 32):
        for action in ("role", "remove"):
            path = f"/console/people/members/{foreign}/{action}"
            check_page(admin.send(path, role="reader"), 404)
    check_page(admin.send(f"{one}/role", role="agent"), 403)
    check_page(admin.send(f"{one}/role", role="king"), 422)
    with Visitor(site.url) as visitor:
        visitor.sign_in("guest")
        assert "New alarm" in visitor.get("/console/alarms").text
        assert admin.send(f"{one}/role", role="reader").status_code == 303
        assert "New alarm" not in visitor.get("/console/alarms").text
        assert admin.send(f"{one}/remove").status_code == 303
        assert visitor.get("/console/alarms").status_code == 303, "the session has ended"


def test_the_pages_of_an_operator(site: Site, signed_in: Visitors) -> None:
    boss = signed_in("boss")
    reply = boss.get("/console/people")
    check_page(reply)
    assert "stranger" in reply.text
    person = f"/console/people/users/{user_id(site, 'goner')}"
    check_page(boss.get(person))
    shop = site.projects["shop"]
    assert boss.send(f"{person}/roles/remove", **{"from": shop}).status_code == 303
    check_page(boss.send(f"{person}/roles/remove", **{"from": shop}), 404)
    assert boss.send(f"{person}/delete").status_code == 303
    check_page(boss.get(person), 404)
    mine = f"/console/people/users/{user_id(site, 'boss')}"
    check_page(boss.send(f"{mine}/delete"), 409)


def test_a_project_is_disabled_and_deleted_by_name(site: Site, signed_in: Visitors) -> None:
    boss = signed_in("boss")
    page = f"/console/people/projects/{site.projects['ruin']}"
    check_page(boss.get(page))
    assert boss.send(f"{page}/disable").status_code == 303
    assert "The project is disabled" in boss.get(page).text
    assert boss.send(f"{page}/enable").status_code == 303
    check_page(boss.send(f"{page}/delete", name="something else"), 422)
    assert boss.send(f"{page}/delete", name="ruin").status_code == 303
    check_page(boss.get(page), 404)
    own = f"/console/people/projects/{site.projects['shop']}"
    check_page(boss.send(f"{own}/delete", name="shop"), 409)
    check_page(boss.send(f"{own}/disable"), 409)
