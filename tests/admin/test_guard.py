"""Who may do what over the admin API: passwords, tokens, roles, sessions, and pages of others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.admin.office import Office, office, served
from waypost.admin.guard import Users
from waypost.auth.admins import Role, changing_administrators, with_password, with_token
from waypost.auth.users import UsersError

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A file with a person and a program a role, and the programs' tokens."""
    path, tokens = tmp_path_factory.mktemp("admins") / "administrators", {}
    with changing_administrators(path) as known:
        for role in Role:
            known[role.value] = with_password(role.value, role, PASSWORD)
            known[f"{role.value}-program"], tokens[role.value] = with_token(f"{role.value}-program", role)
    return path, tokens


@asynccontextmanager
async def at(path: Path) -> AsyncIterator[tuple[Office, aiohttp.ClientSession]]:
    async with office() as found, served(found, access=Users(path)) as server:
        jar = aiohttp.CookieJar(unsafe=True)
        headers = {"X-Waypost": "1"}
        async with aiohttp.ClientSession(f"http://{server.endpoint}", headers=headers, cookie_jar=jar) as browser:
            yield found, browser


async def status(browser: aiohttp.ClientSession, method: str, path: str, **headers: str) -> int:
    async with browser.request(method, path, headers=headers, data="{}" if method == "POST" else None) as response:
        return response.status


async def log_in(browser: aiohttp.ClientSession, name: str, password: str = PASSWORD) -> tuple[int, dict[str, str]]:
    async with browser.post("/api/login", json={"name": name, "password": password}) as response:
        return response.status, await response.json()


async def test_nothing_but_the_probes_and_the_dashboards_files_is_for_whom_nobody_knows(
    guarded: tuple[Path, dict[str, str]],
) -> None:
    async with at(guarded[0]) as (_, browser):
        for path in ("/api/status", "/api/queue", "/api/inbox", "/api/configuration", "/api/events", "/metrics"):
            assert await status(browser, "GET", path) == 401
        for path in ("/healthz", "/readyz", "/", "/web/app.js", "/openapi.json"):
            assert await status(browser, "GET", path) == 200
        assert await status(browser, "POST", "/api/queue/retry") == 401


@pytest.mark.parametrize(
    ("role", "act"), [("viewer", 403), ("operator", 200), ("admin", 200)], ids=["viewer", "operator", "admin"]
)
async def test_a_role_may_do_what_it_is_for(guarded: tuple[Path, dict[str, str]], role: str, act: int) -> None:
    async with at(guarded[0]) as (_, browser):
        token = {"Authorization": f"Bearer {guarded[1][role]}"}
        assert await status(browser, "GET", "/api/queue", **token) == 200
        async with browser.post("/api/queue/retry", json={"everything": True}, headers=token) as response:
            assert response.status == act


async def test_a_session_begins_with_a_password_and_ends_with_a_logout(guarded: tuple[Path, dict[str, str]]) -> None:
    async with at(guarded[0]) as (found, browser):
        code, who = await log_in(browser, "Operator")
        assert (code, who["name"], who["role"]) == (200, "operator", "operator")
        (cookie,) = browser.cookie_jar
        assert (cookie["httponly"], cookie["samesite"]) == (True, "Strict")
        assert await status(browser, "GET", "/api/status") == 200
        waiting = await found.waiting()
        assert await status(browser, "POST", f"/api/queue/{waiting}/hold") == 403
        assert await status(browser, "POST", f"/api/queue/{waiting}/hold", **{"X-CSRF": "guessed"}) == 403
        assert await status(browser, "POST", f"/api/queue/{waiting}/hold", **{"X-CSRF": who["csrf"]}) == 200
        (life,) = (await found.desk.trace(waiting)).traces
        assert life.events[-1].text == "held by operator: held by operator"
        assert await status(browser, "POST", "/api/logout", **{"X-CSRF": who["csrf"]}) == 204
        assert await status(browser, "GET", "/api/status") == 401


async def test_who_has_logged_in_cannot_say_that_he_is_another(guarded: tuple[Path, dict[str, str]]) -> None:
    async with at(guarded[0]) as (found, browser):
        waiting = await found.waiting()
        token = {"Authorization": f"Bearer {guarded[1]['operator']}"}
        async with browser.post(f"/api/queue/{waiting}/delete", json={"by": "root"}, headers=token) as response:
            assert response.status == 200
        (life,) = (await found.desk.trace(waiting)).traces
        assert "deleted by operator-program, for root" in [event.text for event in life.events]


async def test_a_wrong_password_an_unknown_name_and_a_programs_name_are_answered_alike(
    guarded: tuple[Path, dict[str, str]],
) -> None:
    async with at(guarded[0]) as (_, browser):
        answers = [await log_in(browser, name, "wrong password") for name in ("admin", "nobody", "admin-program")]
        assert {code for code, _ in answers} == {401}
        assert len({answer["error"] for _, answer in answers}) == 1


async def test_who_guesses_is_shut_out(guarded: tuple[Path, dict[str, str]]) -> None:
    async with at(guarded[0]) as (_, browser):
        for _ in range(20):
            assert await status(browser, "GET", "/api/status", Authorization="Bearer waypost_guess") == 401
        assert await status(browser, "GET", "/api/status", Authorization="Bearer waypost_guess") == 403
        assert (await log_in(browser, "admin"))[0] == 403


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://attacker.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
    ids=str,
)
async def test_another_sites_page_may_neither_ask_nor_act(
    guarded: tuple[Path, dict[str, str]], headers: dict[str, str]
) -> None:
    async with at(guarded[0]) as (_, browser):
        _, who = await log_in(browser, "admin")
        assert await status(browser, "GET", "/api/queue", **headers) == 403
        assert await status(browser, "POST", "/api/queue/retry", **headers, **{"X-CSRF": who["csrf"]}) == 403
        async with browser.post("/api/login", json={"name": "admin", "password": PASSWORD}, headers=headers) as answer:
            assert answer.status == 403


async def test_a_login_that_a_form_could_send_is_refused(guarded: tuple[Path, dict[str, str]]) -> None:
    login = '{"name": "admin", "password": "x"}'
    async with (
        at(guarded[0]) as (_, browser),
        aiohttp.ClientSession(browser._base_url) as form,
        form.post("/api/login", data=login) as response,
    ):
        assert response.status == 403


async def test_without_users_nobody_is_asked_and_everybody_is_an_admin() -> None:
    async with (
        office() as found,
        served(found) as server,
        aiohttp.ClientSession(f"http://{server.endpoint}") as browser,
    ):
        async with browser.get("/api/session") as response:
            assert await response.json() == {"name": "local", "role": "admin", "csrf": "", "asks": False}
        async with browser.post("/api/login", json={}, headers={"X-Waypost": "1"}) as response:
            assert response.status == 400


@pytest.mark.parametrize("text", ["alice = 7", "[alice]\nrole = 'king'", "[alice]\nrole = 'admin'\nx = 1", "["])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "administrators"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UsersError, match="administrators is damaged"), changing_administrators(path):
        pass
    assert path.read_text() == text


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "administrators"
    path.write_text("")
    path.chmod(0o644)
    with pytest.raises(UsersError, match="open to others"), changing_administrators(path):
        pass


@pytest.mark.parametrize(
    ("name", "password"), [("", PASSWORD), ("a b", PASSWORD), ("alice", "short"), ("alice", "x" * 2000)]
)
def test_a_name_or_password_that_will_not_do_is_refused(name: str, password: str) -> None:
    with pytest.raises(ValueError, match=r"name|password"):
        with_password(name, Role.VIEWER, password)
