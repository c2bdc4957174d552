"""`regsim serve`, as a program of its own."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Layout, Regsim, Running

    Start = Callable[..., Running]

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)


@SIGNALS
def test_serve_prints_its_address_answers_and_stops_gracefully(
    start: Start, regsim: Regsim, layout: Layout, number: int
) -> None:
    server = start("serve", "--port", "0")
    url = server.line()
    assert url.startswith("http://127.0.0.1:")
    with httpx.Client(base_url=url, trust_env=False) as http:
        assert http.get("/v2/").status_code == 200
        assert regsim("push", f"{layout}:v1", f"{url.removeprefix('http://')}/app:1").code == 0
        assert http.get("/v2/app/tags/list").json() == {"name": "app", "tags": ["v1"[1:]]}
        server.signal(number)
        done = server.finish()
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines() == ["press Ctrl-C to stop", "stopping"]


def test_serve_ends_what_it_has_begun(start: Start) -> None:
    server = start("serve", "--port", "0")
    url = server.line()
    with httpx.Client(base_url=url, trust_env=False) as http:
        location = http.post("/v2/app/blobs/uploads/").headers["location"]

        def body() -> object:
            yield b"first half, "
            # It is told to stop in the middle of an upload, which it still takes.
            server.signal(signal.SIGTERM)
            assert server.process.stderr is not None
            while server.process.stderr.readline() != "stopping\n":
                pass
            yield b"second half"

        answer = http.patch(location, content=body())  # type: ignore[arg-type]
    assert answer.status_code == 202
    assert server.finish().code == 0


def test_serve_listens_where_it_is_told(start: Start) -> None:
    server = start("serve", "--port", "0", "--host", "::1")
    url = server.line()
    assert url.startswith("http://[::1]:")
    assert httpx.get(f"{url}/v2/", trust_env=False).status_code == 200
