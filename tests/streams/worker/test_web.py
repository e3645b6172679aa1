import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import SettingsError, load_settings, show_settings
from streams.demo.broker import free_port
from streams.worker import web
from streams.worker.app import build

TOKEN = "correct horse battery"


@contextlib.asynccontextmanager
async def pages(directory: Path, **settings: Any) -> AsyncIterator[int]:
    """Serve the pages of a worker that is connected to nothing; yield the port."""
    async with served(directory, **settings) as (port, _):
        yield port


@contextlib.asynccontextmanager
async def served(directory: Path, **settings: Any) -> AsyncIterator[tuple[int, list[str]]]:
    """The same; yield the port and the addresses that are listened on."""
    port = free_port()
    known = {"data_dir": directory, "policy": "demo", "web_port": port, "_env_file": None, **settings}
    app = build(load_settings(**known))
    app.finalize()
    app.web.init_server()
    await app.web.start_server()
    try:
        yield port, [address[0] for address in app.web._runner.addresses]
    finally:
        await app.web.stop_server()


async def ask(port: int, request: bytes) -> tuple[int, str]:
    """Return status and the rest of an answer; status 0 where the connection is closed without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        answer = (await asyncio.wait_for(reader.read(), 20)).decode()
    finally:
        writer.close()
    return int(answer.split()[1]) if answer else 0, answer


async def get(port: int, path: str, *headers: str, method: str = "GET") -> tuple[int, str]:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]
    return await ask(port, "\r\n".join(lines).encode("latin-1"))


async def trickled(port: int) -> bool:
    """Send a header that does not end, byte by byte; return whether the connection is closed meanwhile."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: ")
    try:
        for _ in range(200):
            writer.write(b"a")
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(reader.read(), 0.1) == b""
    except ConnectionError:
        return True
    finally:
        writer.close()
    return False


def test_there_are_three_pages_and_nothing_else(tmp_path: Path) -> None:
    async def check() -> None:
        async with pages(tmp_path) as port:
            status, answer = await get(port, "/health")
            assert status == 200
            assert json.loads(answer.splitlines()[-1]) == {"status": "alive"}
            status, answer = await get(port, "/ready")
            assert status == 503, "nothing is recovered"
            assert json.loads(answer.splitlines()[-1]) == {"ready": False, "obstacles": ["recovering"]}
            assert (await get(port, "/metrics"))[0] == 200
            # Faust's own, and ways out of the pages.
            for path in ("/", "/router/", "/table/", "/table/state/", "/table/state/c1/", "/graph", "/performance/"):
                assert (await get(port, path))[0] == 404, path
            for path in (
                "/../etc/passwd",
                "/metrics/../../etc/passwd",
                "/%2e%2e/%2e%2e/etc/passwd",
                "/metrics%00",
                "//",
            ):
                status, answer = await get(port, path)
                assert status in {400, 404}, path
                assert "root:" not in answer
            for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE"):
                assert (await get(port, "/metrics", method=method))[0] == 405, method

    asyncio.run(check())


def test_cut_offs_have_pages_if_a_policy_ranks(tmp_path: Path) -> None:
    async def check() -> None:
        async with pages(tmp_path) as port:
            for path in ("/cutoffs", "/cutoffs.json"):
                assert (await get(port, path))[0] == 404
        async with pages(tmp_path, policy="abc", web_token=TOKEN) as port:
            shown = f"Authorization: Bearer {TOKEN}"
            for path, found in (("/cutoffs", "None yet"), ("/cutoffs.json", '{"abc":[]}')):
                assert (await get(port, path))[0] == 401
                status, answer = await get(port, path, shown)
                assert status == 200
                assert found in answer
                assert (await get(port, path, shown, method="POST"))[0] == 405

    asyncio.run(check())


def test_by_default_only_this_machine_can_connect(tmp_path: Path) -> None:
    async def check() -> None:
        async with served(tmp_path) as (_, addresses):
            assert addresses == ["127.0.0.1"]
        async with served(tmp_path, web_host="0.0.0.0", web_token=TOKEN) as (_, addresses):  # noqa: S104  # as asked
            assert addresses == ["0.0.0.0"]  # noqa: S104  # likewise

    asyncio.run(check())


def test_with_a_token_only_how_the_process_is_is_open(tmp_path: Path) -> None:
    async def check() -> None:
        async with pages(tmp_path, web_token=TOKEN) as port:
            assert (await get(port, "/health"))[0] == 200
            assert (await get(port, "/ready"))[0] == 503
            for headers in (
                (),
                ("Authorization: Bearer wrong horse batterie",),
                (f"Authorization: Basic {TOKEN}",),
                ("Authorization: Bearer",),
                ("Authorization: Bearer \xe9",),
                (f"Authorization: {TOKEN}",),
            ):
                status, answer = await get(port, "/metrics", *headers)
                assert status == 401, headers
                assert "tidemark_" not in answer
                assert TOKEN not in answer
            assert (await get(port, "/nothing"))[0] == 401, "what exists is not told either"
            status, answer = await get(port, "/metrics", f"Authorization: Bearer {TOKEN}")
            assert status == 200
            assert "tidemark_rebalances_total" in answer

    asyncio.run(check())


def test_requests_are_bounded_in_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "IDLE_S", 0.5)
    monkeypatch.setattr(web, "ANSWER_S", 0.3)

    async def check() -> None:
        async with pages(tmp_path) as port:
            assert (await get(port, "/" + "a" * 20_000))[0] == 400
            assert (await get(port, "/metrics", "X: " + "a" * 20_000))[0] == 400
            # Nothing, or half a request: the connection is closed.
            for request in (b"", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"):
                assert (await ask(port, request))[0] == 0
            assert await trickled(port), "a request that comes byte by byte is not waited for to its end"
            # A body that never ends is not waited for.
            assert (await ask(port, b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\nxx"))[
                0
            ] == 200

    asyncio.run(check())


def test_an_answer_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "ANSWER_S", 0.2)
    (guard,) = web.web_options(None)["middlewares"]

    async def never(_request: Any) -> Any:
        await asyncio.Event().wait()

    class Request:
        path = "/metrics"

    with pytest.raises(web.HTTPGatewayTimeout):
        asyncio.run(guard(Request(), never))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "example.org"])  # noqa: S104  # what is refused
def test_beyond_the_loopback_address_a_token_or_a_setting_is_required(host: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(web_host=host)
    assert str(refused.value).startswith(f"TIDEMARK_WEB_HOST {host} is not the loopback address")
    assert load_settings(web_host=host, web_token=TOKEN).web_host == host
    assert load_settings(web_host=host, web_open=True).web_host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_the_loopback_address_no_token_is_required(host: str) -> None:
    assert load_settings(web_host=host).web_token is None
    assert load_settings(web_host=host, web_token="").web_token is None


def test_a_token_is_never_shown() -> None:
    settings = load_settings(web_token=TOKEN)
    assert show_settings(settings)["TIDEMARK_WEB_TOKEN"] == "********"
    assert TOKEN not in repr(settings)
    with pytest.raises(SettingsError) as refused:
        load_settings(web_token="short")
    assert "short" not in str(refused.value)
    assert str(refused.value).startswith("TIDEMARK_WEB_TOKEN: found ********: a token has at least 16")
