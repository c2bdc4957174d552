"""A command line to call, layouts made by hand, and registries in a thread, which can be told to stall."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import pytest

from mock_registry import Journal, MockRegistry
from mock_registry.server import Server
from regsim.cli.app import main
from regsim.registry.retry import Patience

if TYPE_CHECKING:
    from pathlib import Path

    from mock_registry.asgi import App, Message, Receive, Scope, Send

# Nothing here takes seconds; only a test that would otherwise hang meets this end.
LONG = 60.0


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let no test see where another one's blobs were: ports come again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "cache"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left behind: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def errors(self) -> list[str]:
        """The lines of standard error that are no mere status, after checking that there is no traceback."""
        assert "Traceback" not in self.err, self.err
        return [line for line in self.err.splitlines() if line.startswith(("Error: ", "hint: "))]


Regsim = Callable[..., Outcome]


@pytest.fixture
def regsim(capsys: pytest.CaptureFixture[str]) -> Regsim:
    """Call the command line in this process."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(each) for each in arguments])
        printed = capsys.readouterr()
        return Outcome(int(code), printed.out, printed.err)

    return call


COMMAND = (sys.executable, "-W", "error", "-m", "regsim")


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Outcome]:
    """Run the command line as a program of its own, below `tmp_path`, and wait for it."""

    def call(*arguments: object, under: Sequence[str] = (), **options: Any) -> Outcome:
        words = [each if isinstance(each, bytes) else str(each) for each in (*under, *COMMAND, *arguments)]
        done = subprocess.run(
            words,
            cwd=tmp_path,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=LONG,
            check=False,
            **options,
        )
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    return call


@dataclass(slots=True)
class Running:
    """A program that has been started."""

    process: subprocess.Popen[str]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def line(self) -> str:
        """Return the next line of its standard output."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def finish(self) -> Outcome:
        out, err = self.process.communicate(timeout=LONG)
        return Outcome(self.process.returncode, out, err)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start the command line as a program of its own; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def call(*arguments: object, under: Sequence[str] = ()) -> Running:
        process = subprocess.Popen(
            [*under, *COMMAND, *map(str, arguments)],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return Running(process)

    yield call
    for process in started:
        process.kill()
        process.communicate()


# Layouts made by hand.


def digest_of(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(slots=True)
class Layout:
    """An OCI image layout, written with nothing of regsim's."""

    path: Path
    entries: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def make(cls, path: Path) -> Self:
        (path / "blobs" / "sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        layout = cls(path)
        layout.list()
        return layout

    def __str__(self) -> str:
        return f"oci:{self.path}"

    def blob(self, digest: str) -> Path:
        return self.path / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def add(self, raw: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        self.blob(digest_of(raw)).write_bytes(raw)
        return {"mediaType": media_type, "digest": digest_of(raw), "size": len(raw), **more}

    def add_image(self, tag: str | None, *layers: bytes, **platform: str) -> dict[str, Any]:
        config = {
            "architecture": platform.get("architecture", "amd64"),
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
            "history": [{"created_by": f"COPY part{number} /"} for number in range(len(layers))],
        }
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.add(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
            "layers": [self.add(layer, LAYER) for layer in layers],
        }
        descriptor = self.add(json.dumps(manifest).encode(), manifest["mediaType"])
        if tag is not None:
            self.tag(tag, descriptor)
        return descriptor

    def add_index(self, tag: str, **images: dict[str, Any]) -> dict[str, Any]:
        index: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [
                {**image, "platform": {"os": "linux", "architecture": architecture}}
                for architecture, image in images.items()
            ],
        }
        descriptor = self.add(json.dumps(index).encode(), index["mediaType"])
        self.tag(tag, descriptor)
        return descriptor

    def tag(self, tag: str, descriptor: dict[str, Any]) -> None:
        self.entries.append({**descriptor, "annotations": {"org.opencontainers.image.ref.name": tag}})
        self.list()

    def list(self) -> None:
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.entries}))

    def manifest(self, descriptor: dict[str, Any]) -> dict[str, Any]:
        document = json.loads(self.blob(descriptor["digest"]).read_bytes())
        assert isinstance(document, dict)
        return document


@pytest.fixture
def empty_layout(tmp_path: Path) -> Layout:
    return Layout.make(tmp_path / "layout")


BASE, OWN = b"base " * 20_000, b"own " * 5_000


@pytest.fixture
def layout(empty_layout: Layout) -> Layout:
    """A layout with `v1`, which names its base twice, and `v2` on the same base."""
    empty_layout.add_image("v1", BASE, OWN, BASE)
    empty_layout.add_image("v2", BASE, b"new " * 7_000)
    return empty_layout


def files_below(folder: Path) -> set[str]:
    """Return every file below a folder; a half-written one would be among them."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(name="files_below")
def files_below_() -> Callable[[Path], set[str]]:
    return files_below


def whole_blobs(folder: Path) -> int:
    """Return how many blobs a layout holds, after checking that each is whole and nothing else is there."""
    known = {"oci-layout", "index.json"}
    blobs = [path for path in files_below(folder) if path not in known]
    for path in blobs:
        assert re.fullmatch(r"blobs/sha256/[0-9a-f]{64}", path), path
        assert digest_of((folder / path).read_bytes()) == f"sha256:{path[-64:]}"
    return len(blobs)


@pytest.fixture(name="whole_blobs")
def whole_blobs_() -> Callable[[Path], int]:
    return whole_blobs


# Registries.


@dataclass(slots=True)
class Served:
    """A registry that is served from a thread."""

    registry: MockRegistry
    url: str
    loop: asyncio.AbstractEventLoop

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    @property
    def journal(self) -> Journal:
        """The records of all requests: what a client has ended may be recorded a moment later."""
        asyncio.run_coroutine_threadsafe(self.registry.settled(), self.loop).result(LONG)
        return self.registry.journal

    @property
    def committed(self) -> set[str]:
        """Digests of the blobs and manifests that any repository holds."""
        return {record.digest for record in self.journal if record.status == 201 and record.digest}


@contextmanager
def served(registry: MockRegistry, app: App | None = None) -> Iterator[Served]:
    """Serve a registry, or an app in front of it, from a thread."""
    ready: list[Served] = []
    begun = threading.Event()
    ended: list[Callable[[], object]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        ended.append(lambda: loop.call_soon_threadsafe(stop.set))
        async with registry, Server(app or registry) as server:
            ready.append(Served(registry, server.url, loop))
            begun.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert begun.wait(LONG)
    try:
        yield ready[0]
    finally:
        ended[0]()
        thread.join(LONG)
        assert not thread.is_alive()


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that serves a registry, and perhaps an app in front of it, until the test ends."""
    with ExitStack() as stack:

        def call(registry: MockRegistry | None = None, app: App | None = None) -> Served:
            return stack.enter_context(served(registry or MockRegistry(), app))

        yield call


@pytest.fixture
def registry(serve: Serve) -> Served:
    return serve()


class Gate:
    """An app in front of a registry that holds requests up at a chosen moment, until the test is over.

    Args:
        registry: who answers in the end.
        methods, target: which requests; `target` is searched for in path and query, as a regular expression.
        after: octets of the body, of whichever side sends one, that still pass; None, or no body: none of it.
    """

    def __init__(
        self, registry: MockRegistry, methods: str, target: str, *, after: int | None = None
    ) -> None:
        self._registry, self._methods, self._target = registry, methods.split("|"), re.compile(target)
        self._after = after
        self._held: Counter[str] = Counter()
        self._news = threading.Condition()

    def wait_for(self, method: str, count: int = 1) -> None:
        """Wait until so many requests of this method are held up."""
        with self._news:
            assert self._news.wait_for(lambda: self._held[method] >= count, LONG)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._chooses(scope):
            await self._registry(scope, receive, send)
        elif self._after is None or scope["method"] in ("HEAD", "DELETE"):
            await self._hold(scope, receive)
        else:
            await self._hold_later(scope, receive, send, self._after)

    def _chooses(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] not in self._methods:
            return False
        return self._target.search(f"{scope['path']}?{scope['query_string'].decode()}") is not None

    async def _hold(self, scope: Scope, receive: Receive) -> None:
        with self._news:
            self._held[scope["method"]] += 1
            self._news.notify_all()
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _hold_later(self, scope: Scope, receive: Receive, send: Send, left: int) -> None:
        async def held_receive() -> Message:
            nonlocal left
            if left <= 0:
                await self._hold(scope, receive)
                return {"type": "http.disconnect"}
            message = await receive()
            left -= len(message.get("body", b""))
            return message

        async def held_send(message: Message) -> None:
            if message["type"] == "http.response.body":
                await send({**message, "body": message["body"][:left], "more_body": True})
                await self._hold(scope, receive)
                raise ConnectionResetError
            await send(message)

        plain = {**scope, "extensions": {}}
        if scope["method"] == "GET":
            await self._registry(plain, receive, held_send)
        else:
            await self._registry(plain, held_receive, send)


@pytest.fixture
def gate() -> type[Gate]:
    return Gate


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be tried again: what fails, fails at once."""

    async def never(*_: object, **__: object) -> bool:
        return False

    monkeypatch.setattr(Patience, "again", never)


def refusing(status: int, code: str, message: str) -> App:
    """Return an app that refuses everything but questions, in the registry's words."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        asked = scope["method"] in ("HEAD", "GET")
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 404 if asked else status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return app


@pytest.fixture(name="refusing")
def refusing_() -> Callable[[int, str, str], App]:
    return refusing


# Results.


def assert_lawful(result: dict[str, Any]) -> None:
    """Check the sums of a RESULT, from its entries alone."""
    for transfer in result["transfers"]:
        entries, summary = transfer["entries"], transfer["summary"]
        assert summary["referenced"]["count"] == len(entries)
        assert summary["referenced"]["bytes"] == sum(entry["size"] for entry in entries)
        assert sum(each["count"] for each in summary["by_outcome"].values()) == len(entries)
        saved = [entry for entry in entries if entry["outcome"] in ("exists", "mounted", "joined")]
        assert summary["saved"] == {"count": len(saved), "bytes": sum(entry["size"] for entry in saved)}
        moved = sum(
            entry["size"] - entry["resumed"] for entry in entries if entry["outcome"] == "transferred"
        )
        for side, direction in (("sent", "pull"), ("received", "push")):
            wire = sum(entry[f"wire_{side}"] for entry in entries)
            wasted = sum(entry[f"wasted_{side}"] for entry in entries)
            assert wire == (0 if transfer["direction"] == direction else moved) + wasted
            assert wasted >= 0
    assert result["reconciliation"]["differences"] == []


@pytest.fixture(name="assert_lawful")
def assert_lawful_() -> Callable[[dict[str, Any]], None]:
    return assert_lawful


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[..., Path]:
    """Write a scenario file and return its path."""

    def write(text: str, name: str = "scenario.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write
