"""The browser's way in: a link that is good once, the cookie it gives, and the files that keep secrets."""

import stat
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import update

from db import columns, users
from graph.credentials import COOKIE
from tests.graph.conftest import Serve
from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

VIEWER = {"query": "{ viewer { kind user { name } projects { name } } }"}
ADMINISTRATOR = {
    "kind": "ADMINISTRATOR",
    "user": {"name": "administrator"},
    "projects": [{"name": "default"}],
}


async def link(server: Server, then: str = "/graphql") -> str:
    payload = await server.change("createLoginLink", "path expiresAt", then=then)
    assert payload["errors"] == []
    return str(payload["path"])


async def cookie(server: Server) -> str:
    answer = await server.http.get(await link(server))
    server.http.cookies.clear()
    return answer.headers["set-cookie"].partition(";")[0].partition("=")[2]


async def test_a_link_logs_in_once(server: Server) -> None:
    path = await link(server, "/graphql?a=b&c=d#part")
    first, second = await server.http.get(path), await server.http.get(path)
    server.http.cookies.clear()
    assert (first.status_code, first.headers["location"]) == (303, "/graphql?a=b&c=d")
    assert path.endswith("#part")
    assert second.status_code == 403
    assert "set-cookie" not in second.headers
    assert "no-store" in first.headers["cache-control"]


async def test_looking_whether_a_link_works_does_not_use_it_up(server: Server) -> None:
    path = await link(server)
    assert "set-cookie" not in (await server.http.head(path)).headers
    assert (await server.http.get(path)).status_code == 303
    server.http.cookies.clear()


async def test_the_cookie_is_for_this_server_and_no_script(server: Server) -> None:
    given = (await server.http.get(await link(server))).headers["set-cookie"]
    server.http.cookies.clear()
    parts = {part.strip().lower() for part in given.split(";")}
    assert {"httponly", "samesite=lax", "path=/", f"max-age={30 * 86400}"} <= parts
    assert "secure" not in parts
    assert not any(part.startswith("domain") for part in parts)


async def test_the_cookie_is_secure_over_tls(server: Server) -> None:
    path = (await link(server)).partition("#")[0]
    answer = await server.http.get(f"https://127.0.0.1{path}")
    server.http.cookies.clear()
    assert "; Secure" in answer.headers["set-cookie"]


async def test_the_cookie_speaks_for_who_made_the_link(server: Server) -> None:
    headers = {"Cookie": f"{COOKIE}={await cookie(server)}", "Origin": server.url}
    answer = await server.http.post("/graphql", json=VIEWER, headers=headers)
    assert answer.json() == {"data": {"viewer": ADMINISTRATOR}}


async def test_the_cookie_of_another_origins_page_is_nobodys(server: Server) -> None:
    headers = {"Cookie": f"{COOKIE}={await cookie(server)}", "Origin": "http://evil.example"}
    assert (await server.http.post("/graphql", json=VIEWER, headers=headers)).status_code == 403
    file = await server.upload("a.txt")
    assert (await server.http.get(f"/files/{file}", headers=headers)).status_code == 401
    other = await server.announce("b.txt", 1)
    assert (await server.http.put(f"/files/{other}", content=b"x", headers=headers)).status_code == 401


@pytest.mark.parametrize("then", ["//evil.example", "/\\evil.example", "https://evil.example", "", "graphql"])
async def test_a_login_leads_nowhere_else(server: Server, then: str) -> None:
    payload = await server.change("createLoginLink", "path", then=then)
    assert (payload["path"], payload["errors"][0]["path"]) == (None, ["input", "then"])
    token = parse_qs(urlsplit(await link(server)).query)["link"][0]
    answer = await server.http.get("/login", params={"link": token, "then": then})
    assert (answer.status_code, "set-cookie" in answer.headers) == (400, False)


@pytest.mark.parametrize("then", ["/\t/evil.example", "/\n/evil.example", "/a\r\nX: y", "/é"])
async def test_what_a_browser_would_drop_from_an_address_stays_in_it(server: Server, then: str) -> None:
    answer = await server.http.get(await link(server, then))
    server.http.cookies.clear()
    location = answer.headers["location"]
    assert answer.status_code == 303
    assert location.isascii()
    assert location.isprintable()
    assert not location.startswith("//")


async def test_links_and_sessions_expire(serve: Serve) -> None:
    async with serve() as server:
        path, session = await link(server), await cookie(server)
        past = columns.now() - timedelta(seconds=1)
        async with server.around.database.begin() as transaction:
            await transaction.execute(
                update(users.Token)
                .where(users.Token.kind != users.TokenKind.ADMINISTRATOR)
                .values(expires_at=past)
            )
        assert (await server.http.get(path)).status_code == 403
        headers = {"Cookie": f"{COOKIE}={session}"}
        answer = await server.http.post("/graphql", json=VIEWER, headers=headers)
        assert answer.status_code == 401


async def test_a_link_is_no_token(server: Server) -> None:
    token = parse_qs(urlsplit(await link(server)).query)["link"][0]
    assert (await server.post(VIEWER["query"], Authorization=f"Bearer {token}")).status_code == 401


async def test_secrets_lie_where_only_their_owner_reads_them_and_stay_the_same(serve: Serve) -> None:
    async with serve() as server:
        home, token = server.home, server.client.token
        names = ("token", "secret", "host")
        before = {name: (home / name).read_text() for name in names}
        (home / "token").chmod(0o644)
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
    async with serve() as server:
        assert {name: (home / name).read_text() for name in names} == before
        assert {stat.S_IMODE((home / name).stat().st_mode) for name in names} == {0o600}
        assert server.client.token == token
        assert await server.is_well()


async def test_another_token_in_the_file_takes_the_place_of_the_former(serve: Serve) -> None:
    async with serve() as server:
        former = server.bearer
        (server.home / "token").unlink()
    async with serve() as server:
        assert server.bearer != former
        assert await server.is_well()
        assert (await server.post(VIEWER["query"], Authorization=former)).status_code == 401
