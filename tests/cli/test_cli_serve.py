"""`regsim serve`, as a program of its own."""

from __future__ import annotations

import json
import signal
import ssl
import sys
from typing import TYPE_CHECKING

import bcrypt
import httpx
import pytest

from mock_registry.faults.profiles import NAMES as PROFILES
from regsim.cli.serve import ServeFlags, serve
from regsim.errors import LocalFileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Layout, Regsim, Running

    Start = Callable[..., Running]

pytestmark = pytest.mark.long

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)


def test_the_help_lists_the_profiles_and_the_grammar_of_faults(regsim: Regsim) -> None:
    told = " ".join(regsim("serve", "--help").out.replace("│", " ").split())
    assert [name for name in PROFILES if name not in told] == []
    assert "[METHOD] [ROUTE] [CONDITION=VALUE...] EFFECT [VALUE] [ATTRIBUTE=VALUE...]" in told


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


def test_serve_keeps_a_directory_for_the_next_start_and_shares_it_with_nobody(
    start: Start, regsim: Regsim, layout: Layout, tmp_path: Path
) -> None:
    folder = tmp_path / "registry"
    first = start("serve", "--port", "0", "--dir", folder)
    host = first.line().removeprefix("http://")
    assert regsim("push", f"{layout}:v1", f"{host}/app:1").code == 0
    second = start("serve", "--port", "0", "--dir", folder).finish()
    assert (second.code, second.out) == (6, "")
    assert second.errors[0].startswith(f"Error: {folder}")
    assert second.errors[1:] == [
        "hint: give --dir an empty directory, or that of a registry which is not running"
    ]
    first.signal(signal.SIGTERM)
    assert first.finish().code == 0
    url = start("serve", "--port", "0", "--dir", folder, "--read-only").line()
    assert httpx.get(f"{url}/v2/app/tags/list", trust_env=False).json()["tags"] == ["1"]
    assert httpx.post(f"{url}/v2/app/blobs/uploads/", trust_env=False).status_code == 405


def test_serve_asks_who_one_is_misbehaves_as_told_and_logs_nothing_but_json(start: Start) -> None:
    server = start(
        *("serve", "--port", "0", "--log", "json"),
        *("--auth", "basic", "--user", "ci:s3cret", "--user", "dev:s4cret"),
        *("--fault", "base nth=1 status 503", "--fault", "base nth=4 cut"),
    )
    with httpx.Client(base_url=server.line(), trust_env=False) as http:
        assert http.get("/v2/", auth=("ci", "s3cret")).status_code == 503
        assert http.get("/v2/", auth=("dev", "s4cret")).status_code == 200
        assert http.get("/v2/").status_code == 401
        with pytest.raises(httpx.RemoteProtocolError):
            http.get("/v2/", auth=("ci", "s3cret"))
        server.signal(signal.SIGTERM)
        done = server.finish()
    assert done.code == 0
    records = [json.loads(line) for line in done.err.splitlines()]
    assert [(record["status"], record["user"], record["fault"]) for record in records] == [
        (503, None, "status"),
        (200, "dev", None),
        (401, None, None),
        (None, None, "cut"),
    ]


def test_serve_logs_lines_for_people(start: Start) -> None:
    server = start("serve", "--port", "0", "--log", "text")
    assert httpx.get(f"{server.line()}/v2/", trust_env=False).status_code == 200
    server.signal(signal.SIGTERM)
    first, second, third = server.finish().err.splitlines()
    assert first == "press Ctrl-C to stop"
    assert second.startswith("200 GET /v2/ in=0 out=2 ")
    assert third == "stopping"


def test_serve_speaks_tls_and_prints_what_it_is_checked_by(start: Start) -> None:
    server = start("serve", "--port", "0", "--tls", "self-signed")
    url, authority = server.line(), server.line()
    assert url.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cafile=authority)
    assert httpx.get(f"{url}/v2/", verify=context, trust_env=False).status_code == 200


def test_serve_behaves_as_a_named_registry_does(start: Start) -> None:
    url = start("serve", "--port", "0", "--profile", "distribution-2.8").line()
    assert httpx.get(f"{url}/v2", trust_env=False).status_code == 301


def test_serve_lets_in_who_stands_in_a_file_as_the_rights_tell(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_bytes(b"ci:" + bcrypt.hashpw(b"s3cret", bcrypt.gensalt(4)) + b"\n")
    server = start(
        *("serve", "--port", "0", "--auth", "basic", "--htpasswd", file),
        *("--right", "ci=shop/**:pull,push", "--anonymous-pull"),
        *("--dir", tmp_path / "registry"),
    )
    with httpx.Client(base_url=server.line(), trust_env=False) as http:
        assert http.get("/v2/shop/api/tags/list").json()["errors"][0]["code"] == "NAME_UNKNOWN"
        assert http.post("/v2/shop/api/blobs/uploads/").status_code == 401
        assert http.post("/v2/shop/api/blobs/uploads/", auth=("ci", "s3cret")).status_code == 202
        assert http.post("/v2/other/blobs/uploads/", auth=("ci", "s3cret")).status_code == 403


def test_serve_warns_and_stands_in_for_another_host(start: Start, regsim: Regsim, layout: Layout) -> None:
    server = start(
        "serve", "--port", "0", "--warning", "old", "--warning", "slow", "--namespace", "docker.io=hub"
    )
    url = server.line()
    assert regsim("push", f"{layout}:v1", f"{url.removeprefix('http://')}/hub/app:1").code == 0
    answer = httpx.get(f"{url}/v2/app/tags/list", params={"ns": "docker.io"}, trust_env=False)
    assert answer.json() == {"name": "app", "tags": ["1"]}
    assert answer.headers["oci-namespace"] == "docker.io"
    assert answer.headers.get_list("warning") == ['299 - "old"', '299 - "slow"']


def test_serve_takes_the_chance_in_its_faults_from_a_seed(start: Start) -> None:
    def statuses(seed: str) -> list[int]:
        url = start("serve", "--port", "0", "--fault", "base toxicity=0.5 status 503", "--seed", seed).line()
        with httpx.Client(base_url=url, trust_env=False) as http:
            return [http.get("/v2/").status_code for _ in range(20)]

    assert statuses("1") == statuses("1") != statuses("2")


def test_serve_says_which_package_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_bytes(b"ci:" + bcrypt.hashpw(b"s3cret", bcrypt.gensalt(4)) + b"\n")
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    with pytest.raises(LocalFileError, match="an htpasswd file needs the package bcrypt: pip install bcrypt"):
        serve(flags=ServeFlags(auth="basic", htpasswd=file))


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--port", "65536"], 2, "there is no port 65536"),
        (
            ["--fault", "blbo xyz"],
            2,
            "'blbo' is not a method, route or effect, did you mean 'blob'?; 'xyz' is not a method, route or",
        ),
        (["--fault", "GET blbo cut"], 2, "'blbo' is not a method, route or effect, did you mean 'blob'?"),
        (["--profile", "olaregg"], 2, "unknown profile 'olaregg', did you mean 'olareg'?"),
        (["--auth", "basic"], 2, "no user can log in: "),
        (["--user", "ci:s3cret"], 2, "users and rights mean nothing without auth: "),
        (["--auth", "basic", "--user", "s3cret"], 2, "a user is NAME:PASSWORD"),
        (["--auth", "basic", "--htpasswd", "nosuch"], 6, "nosuch: No such file or directory"),
        (["--auth", "basic", "--htpasswd", "{junk}"], 2, "{junk}:1: "),
        (["--auth", "basic", "--user", "a:b", "--right", "a"], 2, "a right is "),
        (["--warning", "a\nb"], 2, "a warning is a line of printable ASCII: 'a\\nb'"),
        (["--namespace", "docker.io=Hub"], 2, "not the beginning of a repository's name: 'Hub'"),
        (["--tls", "yes"], 2, "neither self-signed nor CERT,KEY: 'yes'"),
        (["--tls", "nosuch.crt,nosuch.key"], 6, "nosuch.crt: No such file or directory"),
        (["--tls", "{junk},{junk}"], 6, "cannot speak TLS: "),
        (["--dir", "{junk}"], 6, "{junk}: "),
        (["--host", "192.0.2.1"], 4, "cannot listen on 192.0.2.1:5000: "),
    ],
)
def test_serve_refuses_what_it_cannot_do_and_says_why(
    regsim: Regsim, tmp_path: Path, arguments: list[str], code: int, complaint: str
) -> None:
    junk = tmp_path / "junk"
    junk.write_text("junk")
    outcome = regsim("serve", *[each.format(junk=junk) for each in arguments])
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.errors[0].startswith(f"Error: {complaint.format(junk=junk)}")
