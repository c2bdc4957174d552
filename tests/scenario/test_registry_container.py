"""A registry in a container: which engine runs it, when it is ready, and that it is gone afterwards."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from regsim.core.account import Account
from regsim.errors import NetworkError, RegistryError, UsageError
from regsim.registry.transport import Transport
from regsim.scenario import registry_container as module
from regsim.scenario.registry_container import Engine, find_engine, registry_container

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import FakeEngine

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def chosen(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The engine that the environment chooses."""
    monkeypatch.setenv("REGSIM_ENGINE", engine.command)
    return engine


def on_path(folder: Path, engine: FakeEngine, *programs: str) -> str:
    """Put an engine on a PATH of its own, under these names."""
    folder.mkdir()
    for program in programs:
        (folder / program).write_text(f'#!/bin/sh\nexec {engine.command} "$@"\n')
        (folder / program).chmod(0o755)
    return str(folder)


async def test_it_runs_answers_and_is_removed(chosen: FakeEngine, told: list[str]) -> None:
    async with registry_container("registry:2", tell=told.append) as registry:
        assert chosen.containers() == [registry.name]
        async with Transport(registry.url) as transport:
            assert (await transport.send("GET", "/v2/", Account())).status == 200
        assert "200 GET /v2/" in await registry.logs()
        assert registry.url == f"http://{registry.host}"
    assert chosen.containers() == []
    assert told == []


async def test_what_is_there_is_not_pulled_and_what_is_not_there_is(
    chosen: FakeEngine, told: list[str]
) -> None:
    async with registry_container("registry:2", tell=told.append):
        pass
    assert chosen.calls("pull") == []
    async with registry_container("registry:3", tell=told.append):
        pass
    assert chosen.calls("pull") == [["pull", "registry:3"]]
    assert told == ["pulling registry:3"]


async def test_what_cannot_be_pulled_is_told_and_nothing_is_started(
    chosen: FakeEngine, told: list[str]
) -> None:
    chosen.is_("no-pull")
    with pytest.raises(RegistryError, match=r"registry:3 cannot be pulled: Error: registry:3: not found"):
        async with registry_container("registry:3", tell=told.append):
            pass
    assert chosen.calls("run") == []


async def test_an_engine_that_cannot_publish_ports_shares_the_machines_network(
    chosen: FakeEngine, told: list[str]
) -> None:
    chosen.is_("no-publish")
    async with registry_container("registry:2", tell=told.append) as registry:
        first, second = chosen.calls("run")
        assert "--publish" in first
        assert "--publish" not in second
        assert second[second.index("--network") + 1] == "host"
        assert f"REGISTRY_HTTP_ADDR={registry.host}" in second
    assert chosen.containers() == []


async def test_a_registry_that_ends_at_once_is_told_by_its_last_words(
    chosen: FakeEngine, told: list[str]
) -> None:
    chosen.is_("ends-at-once")
    with pytest.raises(RegistryError, match="has stopped: configuration error: no storage"):
        async with registry_container("registry:2", tell=told.append):
            pass
    assert chosen.containers() == []


async def test_one_that_ends_while_it_is_awaited_is_noticed(
    chosen: FakeEngine, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen.is_("ends-at-once", "no-publish")
    monkeypatch.setattr(module, "_POLLS_BETWEEN_LOOKS", 1)
    with pytest.raises(RegistryError, match="has stopped: configuration error: no storage"):
        async with registry_container("registry:2", tell=told.append):
            pass


async def test_one_that_never_answers_is_given_up(
    chosen: FakeEngine, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen.is_("ends-at-once", "no-publish")
    monkeypatch.setattr(module, "_READY_SECONDS", 0.0)
    with pytest.raises(NetworkError, match="did not answer at http://127"):
        async with registry_container("registry:2", tell=told.append):
            pass
    assert chosen.containers() == []


async def test_it_is_removed_when_the_work_fails(chosen: FakeEngine, told: list[str]) -> None:
    with pytest.raises(LookupError):
        async with registry_container("registry:2", tell=told.append):
            raise LookupError
    assert chosen.containers() == []


async def test_it_is_removed_when_the_work_is_cancelled(chosen: FakeEngine, told: list[str]) -> None:
    started = asyncio.Event()

    async def work() -> None:
        async with registry_container("registry:2", tell=told.append):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert chosen.containers() == []


async def test_it_is_removed_when_its_start_is_cancelled(chosen: FakeEngine, told: list[str]) -> None:
    """A container that is being started cannot be removed yet: the start is awaited first."""
    for pipe in ("slow-start", "go-on"):
        os.mkfifo(chosen.folder / pipe)

    async def work() -> None:
        async with registry_container("registry:2", tell=told.append):
            pytest.fail("it was cancelled before")

    task = asyncio.create_task(work())
    await asyncio.to_thread((chosen.folder / "slow-start").read_bytes)  # the container is there
    task.cancel()
    await asyncio.to_thread((chosen.folder / "go-on").write_bytes, b"")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert chosen.containers() == []


async def test_what_must_come_to_its_end_does_however_often_it_is_cancelled(tmp_path: Path) -> None:
    begun, go_on = (tmp_path / each for each in ("begun", "go-on"))
    for pipe in (begun, go_on):
        os.mkfifo(pipe)
    program = tmp_path / "engine"
    program.write_text('#!/bin/sh\ncd "$(dirname "$0")"\n: > begun\nread _ < go-on\n: > done\n')
    program.chmod(0o755)
    task = asyncio.create_task(Engine((str(program),)).call("rm", finish=True))
    await asyncio.to_thread(begun.read_bytes)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    pipe_end = os.open(go_on, os.O_RDWR)  # which waits for no reader
    os.write(pipe_end, b"\n")
    with pytest.raises(asyncio.CancelledError):
        await task
    os.close(pipe_end)
    assert (tmp_path / "done").exists()


async def test_what_cannot_be_removed_is_told(chosen: FakeEngine, told: list[str]) -> None:
    chosen.is_("no-remove")
    async with registry_container("registry:2", tell=told.append) as registry:
        pass
    assert told == [f"left behind: container {registry.name}: Error: the device is busy"]


async def test_the_registry_gets_variables_and_files(
    chosen: FakeEngine, told: list[str], tmp_path: Path
) -> None:
    async with registry_container(
        "registry:2",
        environment={"REGISTRY_AUTH": "htpasswd"},
        volumes={tmp_path: "/auth"},
        tell=told.append,
    ):
        (words,) = chosen.calls("run")
    assert "--env=REGISTRY_AUTH=htpasswd" in words
    assert "--env=REGISTRY_STORAGE_DELETE_ENABLED=true" in words
    assert f"--volume={tmp_path}:/auth:ro" in words


@pytest.mark.usefixtures("chosen")
async def test_a_registry_that_wants_a_login_is_ready(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_REGISTRY_OPTIONS", "--auth basic --user ci:s3cret --tls self-signed")
    async with registry_container("registry:2", tls=True, tell=told.append) as registry:
        assert registry.url.startswith("https://")
        assert "401 GET /v2/" in await registry.logs()


@pytest.mark.parametrize("image", ["", "--privileged", "a\nb"])
async def test_no_image_name_becomes_an_option(chosen: FakeEngine, told: list[str], image: str) -> None:
    with pytest.raises(UsageError, match="not the name of an image"):
        async with registry_container(image, tell=told.append):
            pass
    assert chosen.calls() == []


async def test_the_engine_is_the_first_whose_info_succeeds(engine: FakeEngine, tmp_path: Path) -> None:
    path = on_path(tmp_path / "bin", engine, "docker", "podman")
    environment = {"PATH": path, "REGSIM_ENGINE": engine.command}
    assert str(await find_engine(environment)) == engine.command
    broken = {"PATH": path, "REGSIM_ENGINE": "/nowhere/engine --flag"}
    assert await find_engine(broken) == Engine((f"{path}/docker",))
    (tmp_path / "bin" / "docker").write_text("#!/bin/sh\necho 'no daemon' >&2\nexit 1\n")
    assert await find_engine(broken) == Engine((f"{path}/podman",))


async def test_an_engine_that_is_no_command_line_is_told_by_the_name_of_its_variable() -> None:
    with pytest.raises(UsageError, match="REGSIM_ENGINE is not a command line: No closing quotation"):
        await find_engine({"REGSIM_ENGINE": "podman --root 'here", "PATH": ""})


async def test_where_no_engine_answers_each_is_told_with_its_words(
    engine: FakeEngine, tmp_path: Path
) -> None:
    engine.is_("no-info")
    path = on_path(tmp_path / "bin", engine, "podman")
    with pytest.raises(UsageError) as caught:
        await find_engine({"PATH": path, "REGSIM_ENGINE": "/nowhere/engine"})
    assert caught.value.message == (
        "no container engine answers: "
        "REGSIM_ENGINE: /nowhere/engine cannot be run: No such file or directory; "
        "podman: Error: cannot connect to the engine"
    )
    with pytest.raises(UsageError, match="neither docker nor podman is installed"):
        await find_engine({"PATH": str(tmp_path)})


async def test_an_engine_that_hangs_is_given_up(engine: FakeEngine) -> None:
    (engine.folder / "images").unlink()
    os.mkfifo(engine.folder / "images")  # which nobody writes
    with pytest.raises(NetworkError, match=r"image took more than 0\.5 s"):
        await Engine(tuple(engine.command.split())).call("image", "inspect", "registry:2", seconds=0.5)
