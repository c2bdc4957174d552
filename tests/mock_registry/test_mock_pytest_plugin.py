"""The plugin for pytest, used as its users do: in projects of their own, which pytester makes and runs."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mock_registry
import mock_registry.background  # pytester forgets modules that a project was the first to import

if TYPE_CHECKING:
    from collections.abc import Callable

    Try = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]

README = Path(mock_registry.__file__).with_name("README.md")
ANYIO = ("-p", "no:asyncio")
ASYNCIO = ("-p", "no:anyio", "-o", "asyncio_default_fixture_loop_scope=function")

PRELUDE = """
import asyncio, threading
import httpx, pytest
from mock_registry import Journal, MemoryStorage, MockRegistry, RegistryServer
from mock_registry.auth import TokenAuth

def statuses(server, *paths, **options):
    with httpx.Client(base_url=server.url, trust_env=False, **options) as http:
        return [http.get(path).status_code for path in paths]

def threads():
    return [thread for thread in threading.enumerate() if thread.name == "mock-registry"]
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Try:
    """Return a function that runs a module of tests, where warnings are errors.

    With ``apart``, in a process of its own: what is written in Rust cannot be imported anew in this one.
    """
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

    def run(code: str, *arguments: str, apart: bool = False) -> pytest.RunResult:
        pytester.makepyfile(PRELUDE + code)
        words = ("-W", "error", "--strict-markers", "-p", "no:cacheprovider", *(arguments or ANYIO))
        if apart:
            return pytester.runpytest_subprocess(*words, timeout=120)
        return pytester.runpytest_inprocess(*words)

    return run


def examples() -> list[str]:
    found = re.search(r"^## In pytest\n(.*?)(?=^## )", README.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return re.findall(r"^```python\n(.*?)^```$", found[1], re.MULTILINE | re.DOTALL)


# The examples, and what they promise


@pytest.mark.long
@pytest.mark.parametrize("loop", ["anyio", "asyncio"])
def test_the_examples_of_the_readme_pass_under_anyio_and_under_pytest_asyncio(
    pytester: pytest.Pytester, run: Try, loop: str
) -> None:
    blocks = [block.replace("mark.anyio", f"mark.{loop}") for block in examples()]
    assert [block.count("def test_") for block in blocks] == [3, 2, 2]
    pytester.makepyfile(**{f"test_example_{number}": block for number, block in enumerate(blocks)})
    run("", *(ANYIO if loop == "anyio" else ASYNCIO), apart=True).assert_outcomes(passed=7)


def test_pytest_finds_the_plugin_by_itself_and_knows_its_fixtures_and_its_marker(
    pytester: pytest.Pytester,
) -> None:
    [found] = entry_points(group="pytest11", name="mock_registry")
    assert found.value == "mock_registry.pytest_plugin"
    markers = pytester.runpytest_inprocess("--markers", *ANYIO)
    markers.stdout.fnmatch_lines(["@pytest.mark.mock_registry(auth=*"])
    fixtures = pytester.runpytest_inprocess("--fixtures", *ANYIO).stdout.str()
    assert set(re.findall(r"^(mock_registry\w*) -- ", fixtures, re.MULTILINE)) == {
        "mock_registry",
        "mock_registry_factory",
        "mock_registry_server",
    }


def test_importing_the_plugin_imports_neither_a_client_nor_a_loop_nor_the_registry() -> None:
    code = (
        "import sys, pytest; before = {*sys.modules}; import mock_registry.pytest_plugin;"
        "print(*sorted({*sys.modules} - before))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["mock_registry", "mock_registry.pytest_plugin"]


# What a test is given


def test_every_test_has_registries_of_its_own_that_end_with_it(run: Try) -> None:
    run(
        """
seen = []

@pytest.mark.parametrize("number", [0, 1])
def test_one(mock_registry, mock_registry_server, number):
    assert isinstance(mock_registry, MockRegistry) and isinstance(mock_registry_server, RegistryServer)
    assert mock_registry is not mock_registry_server.registry
    assert len(mock_registry.journal) == len(mock_registry_server.journal) == 0
    assert statuses(mock_registry_server, "/v2/") == [200]
    assert len(mock_registry_server.journal) == len(threads()) == 1
    seen.append(mock_registry_server)

def test_what_is_left():
    assert len({server.url for server in seen}) == 2
    assert threads() == []
    for server in seen:
        with pytest.raises(httpx.ConnectError):
            statuses(server, "/v2/")
        assert len(server.journal) == 1
"""
    ).assert_outcomes(passed=3)


def test_what_a_registry_in_process_spooled_is_gone_after_the_test(run: Try) -> None:
    run(
        """
import hashlib
spools = []

async def push(registry, content):
    async with httpx.AsyncClient(transport=registry.transport(), base_url="http://registry") as http:
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        url = f"/v2/app/blobs/uploads/?digest={digest}"
        return (await http.post(url, content=content)).status_code

def test_one(mock_registry):
    assert asyncio.run(push(mock_registry, bytes(1_000_000))) == 201
    spools.append(mock_registry.storage.spool)
    assert len(list(spools[0].iterdir())) == 1

def test_what_is_left():
    assert not spools[0].exists()
"""
    ).assert_outcomes(passed=2)


@pytest.mark.parametrize("loop", ["anyio", "asyncio"])
def test_an_asynchronous_test_may_use_both_and_make_more(run: Try, loop: str) -> None:
    run(
        """
@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.LOOP
@pytest.mark.mock_registry(faults="base nth=2 status 418")
async def test_one(mock_registry, mock_registry_server, mock_registry_factory):
    async def ask(base_url, transport=None):
        async with httpx.AsyncClient(base_url=base_url, transport=transport, trust_env=False) as http:
            return [(await http.get("/v2/")).status_code for _ in range(2)]

    other = mock_registry_factory()
    server = mock_registry_factory.serve()
    assert await ask("http://registry", mock_registry.transport()) == [200, 418]
    assert await ask("http://registry", other.transport()) == [200, 418]
    assert await ask(mock_registry_server.url) == [200, 418]
    assert await ask(server.url) == [200, 418]
    assert [record.fault for record in server.journal] == [None, "status"]
""".replace("LOOP", loop),
        *(ANYIO if loop == "anyio" else ASYNCIO),
    ).assert_outcomes(passed=1)


def test_a_registry_that_a_test_made_itself_can_be_served(run: Try) -> None:
    run(
        """
def test_one(mock_registry_factory):
    registry = MockRegistry(read_only=True)
    server = mock_registry_factory.serve(registry, host="127.0.0.1")
    assert server.registry is registry
    assert httpx.post(f"{server.url}/v2/app/blobs/uploads/").status_code == 405
    with pytest.raises(TypeError, match="made already: delete can no longer be set"):
        mock_registry_factory.serve(registry, delete=False)
"""
    ).assert_outcomes(passed=1)


# The marker


def test_of_each_setting_the_closest_marker_has_the_word_and_the_factory_the_last(run: Try) -> None:
    run(
        """
pytestmark = pytest.mark.mock_registry(read_only=True, manifest_limit=1, min_chunk_length=1)

@pytest.mark.mock_registry(manifest_limit=2, min_chunk_length=2)
class TestClass:
    @pytest.mark.mock_registry(min_chunk_length=3)
    def test_one(self, mock_registry, mock_registry_factory):
        settings = mock_registry.settings
        assert (settings.read_only, settings.manifest_limit, settings.min_chunk_length) == (True, 2, 3)
        settings = mock_registry_factory(min_chunk_length=4).settings
        assert (settings.read_only, settings.manifest_limit, settings.min_chunk_length) == (True, 2, 4)

    def test_two(self, mock_registry_server):
        assert mock_registry_server.registry.settings.min_chunk_length == 2
"""
    ).assert_outcomes(passed=2)


def test_ways_to_log_in_are_told_in_words_as_they_are_or_by_a_function(run: Try) -> None:
    run(
        """
made = []

def make():
    made.append(TokenAuth({"ci": "s3cret"}))
    return made[-1]

@pytest.mark.mock_registry(auth="basic", users=["ci:s3:cret"], rights=["ci=shop/**:pull"])
def test_basic(mock_registry_server):
    tags = ("/v2/shop/api/tags/list", "/v2/other/tags/list")
    assert statuses(mock_registry_server, *tags) == [401, 401]
    assert statuses(mock_registry_server, *tags, auth=("ci", "s3:cret")) == [404, 403]
    assert mock_registry_server.journal[-1].user == "ci"

@pytest.mark.mock_registry(auth="token", users={"ci": "s3cret"}, anonymous_pull=True)
def test_token(mock_registry_server):
    assert statuses(mock_registry_server, "/v2/", "/token", auth=("ci", "s3cret")) == [401, 200]

@pytest.mark.mock_registry(auth=make)
@pytest.mark.parametrize("number", [0, 1])
def test_function(mock_registry, number):
    assert mock_registry.auth is made[number]

@pytest.mark.mock_registry(auth=make())
def test_value(mock_registry, mock_registry_factory):
    assert mock_registry.auth is mock_registry_factory().auth is made[0]
""".replace("made[number]", "made[number + 1]")
    ).assert_outcomes(passed=5)


def test_journal_and_storage_may_be_given_by_functions(run: Try) -> None:
    run(
        """
@pytest.mark.mock_registry(journal=lambda: Journal(limit=2), storage=lambda: MemoryStorage(capacity=10))
def test_one(mock_registry_server, mock_registry_factory):
    assert statuses(mock_registry_server, "/v2/", "/v2/", "/v2/") == [200] * 3
    assert len(mock_registry_server.journal) == 2
    post = f"{mock_registry_server.url}/v2/app/blobs/uploads/"
    assert httpx.post(post, params={"digest": "sha256:" + "0" * 64}, content=bytes(11)).status_code == 507
    assert mock_registry_factory().storage is not mock_registry_server.registry.storage
"""
    ).assert_outcomes(passed=1)


@pytest.mark.long
def test_a_server_speaks_tls_and_a_registry_in_process_leaves_that_aside(run: Try) -> None:
    run(
        """
@pytest.mark.mock_registry(tls="self-signed")
def test_one(mock_registry_server, mock_registry):
    import ssl
    context = ssl.create_default_context(cafile=mock_registry_server.ca)
    assert mock_registry_server.url == f"https://{mock_registry_server.netloc}"
    assert statuses(mock_registry_server, "/v2/", verify=context) == [200]
""",
        apart=True,
    ).assert_outcomes(passed=1)


NONSENSE = {
    '"token"': "the marker mock_registry takes settings by name, not 'token'",
    "read_onli=True": "a mock registry has no setting 'read_onli', did you mean 'read_only'?",
    'faults=["GET blbo cut"]': "'blbo' is not a method, route or effect, did you mean 'blob'?",
    'profile="nosuch"': "unknown profile 'nosuch'",
    'auth="password"': "auth is one of none, basic, token, not 'password'",
    'users={"ci": "s3cret"}': "users and rights mean nothing without auth: basic or token",
    'auth=TokenAuth({}), users=["a:b"]': "users: of an auth in words, 'basic' or 'token'",
}


@pytest.mark.parametrize("fixture", ["mock_registry", "mock_registry_server"])
def test_a_marker_that_makes_no_sense_fails_its_test_and_says_why(run: Try, fixture: str) -> None:
    marked = [
        f"@pytest.mark.mock_registry({marker})\ndef test_{number}({fixture}): pass\n"
        for number, marker in enumerate(NONSENSE)
    ]
    result = run("\n".join((*marked, f"def test_without({fixture}): pass")))
    result.assert_outcomes(errors=len(NONSENSE), passed=1)
    told = result.stdout.str()
    assert [complaint for complaint in NONSENSE.values() if complaint not in told] == []
    assert "pytest_plugin.py" not in told, "a traceback shows the user's side alone"


def test_a_registry_in_process_is_told_nothing_of_ports(run: Try) -> None:
    run(
        """
def test_one(mock_registry_factory):
    with pytest.raises(TypeError, match="tls means nothing in process"):
        mock_registry_factory(tls="self-signed")
"""
    ).assert_outcomes(passed=1)


# With respx


def test_faults_reach_a_client_through_respx(run: Try) -> None:
    run(
        """
import respx

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
@pytest.mark.mock_registry(faults=["base nth=1 reset", "catalog cut 5"])
async def test_one(mock_registry):
    with respx.mock as router:
        router.route(host="registry").mock(side_effect=mock_registry.transport().handle_async_request)
        async with httpx.AsyncClient(base_url="http://registry") as http:
            with pytest.raises(httpx.ReadError):
                await http.get("/v2/")
            assert (await http.get("/v2/")).status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get("/v2/_catalog")
        assert router.calls.call_count == 3
    assert [record.fault for record in mock_registry.journal] == ["reset", None, "cut"]
    assert mock_registry.journal[-1].bytes_out == 5
"""
    ).assert_outcomes(passed=1)
