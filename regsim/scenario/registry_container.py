"""A registry in a container of its own: started by the engine that is installed, awaited, and removed.

Owns which engine is used, and the life of the container. Must not know scenarios, nor what the registry is
used for. Engines are called by their command lines, with the options that docker and podman share.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import shlex
import shutil
import socket
import tempfile
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from regsim.core.account import Account
from regsim.errors import AuthenticationError, NetworkError, RegistryError, RegsimError, UsageError
from regsim.net import Timeouts
from regsim.net.trust import Trust
from regsim.registry import Connection
from regsim.registry.transport import Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from pathlib import Path

VARIABLE = "REGSIM_ENGINE"
PORT = 5000  # inside: the default of distribution and most others

_PROGRAMS = ("docker", "podman")
_ASK_SECONDS = 30.0
_START_SECONDS = 120.0
_PULL_SECONDS = 900.0
_READY_SECONDS = 60.0
_POLL_SECONDS = 0.05
_POLLS_BETWEEN_LOOKS = 20
_QUOTED = 500  # characters of what an engine says
# What docker's registry reads; others take no notice.
_ENVIRONMENT = {"REGISTRY_STORAGE_DELETE_ENABLED": "true"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The exit code and the output of an engine's command."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line that it printed."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        text = lines[-1] if lines else f"it ended with {self.code}"
        return "".join(each if each.isprintable() else " " for each in text)[:_QUOTED]


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine: the command line that it is called by, such as `podman --storage-driver vfs`."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)

    async def call(self, *words: str, seconds: float = _ASK_SECONDS, finish: bool = False) -> Said:
        """Run one of the engine's commands and wait for it.

        Args:
            words: the command and its arguments.
            seconds: how long it may take.
            finish: wait for it even if the caller is cancelled; for commands that make something.

        Raises:
            UsageError: the engine cannot be run.
            NetworkError: it takes longer than that.
        """
        calling = asyncio.ensure_future(self._call(words, seconds))
        try:
            return await asyncio.shield(calling)
        except asyncio.CancelledError:
            if not finish:
                calling.cancel()
            # Not gather, which passes a cancellation on: a second one must wait as well.
            while not calling.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait((calling,))
            if not calling.cancelled():
                calling.exception()  # marks its outcome as seen
            raise

    async def _call(self, words: tuple[str, ...], seconds: float) -> Said:
        # In files, since a process that the engine leaves behind may keep a pipe open.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self.words,
                    *words,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,  # Ctrl-C is ours to handle
                )
            except OSError as error:
                raise UsageError(f"{self} cannot be run: {error.strerror}") from error
            try:
                async with asyncio.timeout(seconds):
                    await process.wait()
            except TimeoutError as error:
                raise NetworkError(f"{self} {words[0]} took more than {seconds:g} s") from error
            finally:
                if process.returncode is None:
                    with suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode("utf-8", "replace"))
        return Said(code=process.returncode or 0, out=texts[0], err=texts[1])


def engines(environment: Mapping[str, str] = os.environ) -> Iterator[tuple[str, Engine]]:
    """Yield the engines that may be there, best first, each under the name that it is known by here.

    Raises:
        UsageError: `REGSIM_ENGINE` is not a command line.
    """
    try:
        chosen = tuple(shlex.split(environment.get(VARIABLE, "")))
    except ValueError as error:
        raise UsageError(f"{VARIABLE} is not a command line: {error}") from error
    if chosen:
        yield VARIABLE, Engine(chosen)
    for program in _PROGRAMS:
        found = shutil.which(program, path=environment.get("PATH"))
        if found is not None:
            yield program, Engine((found,))


async def find_engine(environment: Mapping[str, str] = os.environ) -> Engine:
    """Return the first of `REGSIM_ENGINE` (a full command line), docker and podman whose `info` succeeds.

    Raises:
        UsageError: no engine answers; the message has what each one said.
    """
    said: list[str] = []
    for name, engine in engines(environment):
        try:
            answer = await engine.call("info")
        except RegsimError as error:
            said.append(f"{name}: {error.message}")
            continue
        if answer.code == 0:
            return engine
        said.append(f"{name}: {answer.last}")
    raise UsageError(
        f"no container engine answers: {'; '.join(said) or 'neither docker nor podman is installed'}",
        hint=f"start one, set {VARIABLE} to its command line, or use --registry mock or a URL",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryContainer:
    """A registry that runs in a container.

    Attributes:
        url: such as `http://127.0.0.1:49153`.
        name: of the container.
        engine: that runs it.
    """

    url: str
    name: str
    engine: Engine

    @property
    def host(self) -> str:
        """Host and port, as references have them."""
        return self.url.partition("://")[2]

    async def logs(self) -> str:
        """Return all that the registry has printed so far: docker's tells each request and its bytes."""
        said = await self.engine.call("logs", self.name)
        return said.out + said.err


@asynccontextmanager
async def registry_container(
    image: str,
    *,
    environment: Mapping[str, str] | None = None,
    volumes: Mapping[Path, str] | None = None,
    tls: bool = False,
    engine: Engine | None = None,
    tell: Callable[[str], None],
) -> AsyncIterator[RegistryContainer]:
    """Start a registry in a container and remove it again, also after errors and cancellation.

    Its port 5000 is published on a free port of the loopback interface. Where the engine cannot do that (as
    without a network of its own) the container shares this machine's network, and gets a free port in
    the variable of docker's registry (`REGISTRY_HTTP_ADDR`).

    Args:
        image: pulled only if the engine does not have it.
        environment: variables for the registry; deletes are allowed unless they say otherwise.
        volumes: files and directories of this machine and where the registry finds them, to be read only.
        tls: the registry is configured for TLS.
        engine: None: see `find_engine`.
        tell: receives messages before slow work, and about what was left behind.

    Raises:
        UsageError: there is no engine, or `image` is not an image's name.
        RegistryError: the image cannot be pulled, or the container does not run.
        NetworkError: the registry does not answer in time.
    """
    check_image(image)
    engine = engine or await find_engine()
    await _have(engine, image, tell)
    name = f"regsim-{secrets.token_hex(6)}"
    variables = [f"--env={each}={value}" for each, value in {**_ENVIRONMENT, **(environment or {})}.items()]
    mounts = [f"--volume={here.absolute()}:{there}:ro" for here, there in (volumes or {}).items()]
    try:
        port = await _start(engine, name, image, [*variables, *mounts])
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        container = RegistryContainer(url=url, name=name, engine=engine)
        await _ready(container)
        yield container
    finally:
        await _remove(engine, name, tell)


def check_image(image: str) -> None:
    """Check that a text can be the name of an image, and not an option of an engine.

    Raises:
        UsageError: it cannot.
    """
    if not image or image.startswith("-") or not image.isprintable():
        raise UsageError(f"not the name of an image: {image[:160]!r}", hint="such as registry:2")


async def _have(engine: Engine, image: str, tell: Callable[[str], None]) -> None:
    """Pull an image unless it is there.

    Raises:
        RegistryError: it cannot be pulled.
    """
    if (await engine.call("image", "inspect", image)).code == 0:
        return
    tell(f"pulling {image}")
    said = await engine.call("pull", image, seconds=_PULL_SECONDS)
    if said.code != 0:
        raise RegistryError(f"{image} cannot be pulled: {said.last}", hint="check its name, or load it")


async def _start(engine: Engine, name: str, image: str, options: Sequence[str]) -> int:
    """Start a container and return the port of the loopback interface where its registry listens.

    Raises:
        RegistryError: it does not start, or ends at once.
    """

    async def run(*network: str) -> Said:
        # In most places nothing is lost by not waiting for a registry that is thrown away.
        made = ("--detach", "--name", name, "--stop-timeout", "1")
        words = ("run", *made, *network, *options, image)
        return await engine.call(*words, seconds=_START_SECONDS, finish=True)

    published = await run("--publish", f"127.0.0.1::{PORT}")
    if published.code == 0:
        said = await engine.call("port", name, f"{PORT}/tcp")
        port = said.out.partition("\n")[0].rpartition(":")[2].strip()
        if said.code != 0 or not port.isdecimal():
            # A registry that ends at once has no ports any more, and its own words say more.
            raise await _fallen(engine, name, image)
        return int(port)
    # It may have been made and not been started.
    await engine.call("rm", "--force", "--volumes", name, finish=True)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        free = int(listening.getsockname()[1])
    said = await run("--network", "host", "--env", f"REGISTRY_HTTP_ADDR=127.0.0.1:{free}")
    if said.code != 0:
        raise RegistryError(f"{image} does not start: {published.last}; with the host's network: {said.last}")
    return free


async def _ready(container: RegistryContainer) -> None:
    """Wait until a registry answers.

    Raises:
        RegistryError: it has ended.
        NetworkError: it does not answer in time.
    """
    # Nothing secret is sent; the clients that use it verify its certificate.
    timeouts = Timeouts(connect=2.0, read=5.0, metadata=5.0)
    name = container.name
    running = ("inspect", "--format", "{{.State.Running}}", name)
    try:
        async with (
            asyncio.timeout(_READY_SECONDS),
            Transport(container.url, Connection(trust=Trust(verify=False), timeouts=timeouts)) as transport,
        ):
            for polls in itertools.count(1):
                if await _answers(transport):
                    return
                if polls % _POLLS_BETWEEN_LOOKS == 0:
                    said = await container.engine.call(*running)
                    if said.out.strip() != "true":
                        raise await _fallen(container.engine, name, container.url)
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as error:
        raise NetworkError(
            f"the registry in {name} did not answer at {container.url} within {_READY_SECONDS:g} s"
        ) from error


async def _answers(transport: Transport) -> bool:
    try:
        return (await transport.send("GET", "/v2/", Account())).status == HTTPStatus.OK
    except AuthenticationError:
        return True  # it answers, and wants credentials
    except NetworkError:
        return False


async def _fallen(engine: Engine, name: str, what: str) -> RegistryError:
    said = await engine.call("logs", "--tail", "5", name)
    return RegistryError(f"the registry {what} has stopped: {said.last}")


async def _remove(engine: Engine, name: str, tell: Callable[[str], None]) -> None:
    try:
        said = await engine.call("rm", "--force", "--volumes", name, finish=True)
    except RegsimError as error:
        tell(f"left behind: container {name}: {error.message}")
        return
    # docker fails, and podman 4 does not, over what is not there: then nothing is left behind.
    if said.code != 0 and "no such container" not in said.err.lower():
        tell(f"left behind: container {name}: {said.last}")
