"""Progress on standard error: bars on a terminal, plain lines elsewhere, JSON for programs, or none."""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from mock_registry import MockRegistry
from regsim import Client
from regsim.cli.app import main
from regsim.cli.progress import Bars
from regsim.core import Descriptor, media_types
from regsim.transfer.events import Event, Moment, Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mock_registry.asgi import Message, Receive, Scope, Send
    from tests.cli.conftest import Layout, Regsim, Serve, Served

COMMAND = [sys.executable, "-W", "error", "-m", "regsim"]
LONG = 60.0


class Screen:
    """As much of a terminal as bars use: lines, going up, and clearing; colours are left out."""

    def __init__(self) -> None:
        self.lines = [""]
        self.row = 0

    def feed(self, text: str) -> None:
        for token in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
            if token == "\n":
                self.row += 1
                if self.row == len(self.lines):
                    self.lines.append("")
            elif token == "\x1b[1A":
                self.row -= 1
                assert self.row >= 0, "the cursor left what was drawn"
            elif token == "\x1b[2K":
                self.lines[self.row] = ""
            elif not token.startswith(("\x1b", "\r")):
                self.lines[self.row] += token

    @property
    def text(self) -> list[str]:
        return [line.rstrip() for line in self.lines if line.strip()]


def at_a_terminal(
    *words: str, columns: int = 80, environment: dict[str, str] | None = None
) -> tuple[bytes, str]:
    """Run the command line with standard error at a terminal; return what it printed on either."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    seen: list[bytes] = []
    # Workers of pytest-xdist say how wide their terminal is, which would go before what the terminal says.
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}

    def read() -> None:
        # Linux says so when the last one has closed the other side.
        with open(ours, "rb", buffering=0) as terminal:  # noqa: PTH123  (a descriptor, no path)
            while True:
                try:
                    seen.append(terminal.read(4096))
                except OSError:
                    return

    reading = threading.Thread(target=read)
    reading.start()
    try:
        done = subprocess.run(
            [*COMMAND, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            timeout=LONG,
            check=False,
            env={**kept, "TERM": "xterm", **(environment or {})},
        )
    finally:
        os.close(theirs)
        reading.join(LONG)
    assert done.returncode == 0
    return done.stdout, b"".join(seen).decode()


def test_a_terminal_shows_bars_that_are_gone_in_the_end(layout: Layout, registry: Served) -> None:
    out, err = at_a_terminal("push", f"{layout}:v1", f"{registry.host}/app:1", "--format", "json")
    assert json.loads(out)["summary"]["by_outcome"]["transferred"]["count"] == 4
    assert re.search(r"of \d blobs", err)
    screen = Screen()
    screen.feed(err)
    assert screen.text == []
    assert err.rindex("\x1b[?25h") > err.rindex("\x1b[?25l"), "the cursor stays hidden"


@pytest.mark.parametrize("columns", [20, 40])
def test_no_line_is_wider_than_the_terminal(layout: Layout, registry: Served, columns: int) -> None:
    _, err = at_a_terminal("push", f"{layout}:v1", f"{registry.host}/app:1", columns=columns)
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", err))
    assert 10 < max(map(len, lines)) <= columns


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}], ids=["dumb", "no color"])
def test_what_a_terminal_cannot_do_is_not_asked_of_it(
    layout: Layout, registry: Served, environment: dict[str, str]
) -> None:
    _, err = at_a_terminal("push", f"{layout}:v1", f"{registry.host}/app:1", environment=environment)
    assert not re.search(r"\x1b\[[\d;]*m", err)  # a colour
    assert ("\x1b" in err) == ("NO_COLOR" in environment)
    assert ("uploaded " in err) == ("TERM" in environment)


def test_elsewhere_each_piece_has_a_line(regsim: Regsim, layout: Layout, registry: Served) -> None:
    regsim("push", f"{layout}:v1", f"{registry.host}/app:1")
    copied = regsim("copy", f"{registry.host}/app:1", f"{registry.host}/web:1")
    words = [line.split()[0] for line in copied.err.splitlines()]
    assert words == ["mounted", "mounted", "mounted", "stored"]
    pulled = regsim("pull", f"{registry.host}/app:1", "--progress", "plain")
    assert sum(line.startswith("downloaded ") for line in pulled.err.splitlines()) == 3


def test_events_are_json_one_a_line(regsim: Regsim, layout: Layout, registry: Served, tmp_path: Path) -> None:
    done = regsim(
        "push", f"{layout}:v1", f"{registry.host}/app:1", "--progress", "json", "-o", tmp_path / "out"
    )
    assert done.out == ""
    events = [json.loads(line) for line in done.err.splitlines()]
    manifest = layout.entries[0]
    assert events[-1] == {
        "event": "put-manifest",
        "moment": "completed",
        "digest": manifest["digest"],
        "media_type": manifest["mediaType"],
        "size": manifest["size"],
        "moved": 0,
        "found": None,
    }
    uploads = [each for each in events if (each["event"], each["moment"]) == ("upload", "completed")]
    assert [each["moved"] for each in uploads] == [each["size"] for each in uploads]
    assert {each["found"] for each in events if each["event"] == "check-blob"} == {None, False}


@pytest.mark.parametrize("flag", ["--progress=none", "--quiet"])
def test_nothing_is_shown_where_nothing_is_wanted(
    regsim: Regsim, layout: Layout, registry: Served, flag: str
) -> None:
    assert regsim("push", f"{layout}:v1", f"{registry.host}/app:1", flag).err == ""


@pytest.mark.parametrize("kind", ["plain", "json", "bar"])
def test_a_dry_run_claims_no_progress(regsim: Regsim, layout: Layout, registry: Served, kind: str) -> None:
    done = regsim("push", f"{layout}:v1", f"{registry.host}/app:1", "--dry-run", "--progress", kind)
    assert (done.code, done.err) == (0, "")


# Numbers that move. A registry holds back most of each body until its client has shown the beginning.


class Holding:
    """An app in front of a registry that stops in each large body until it is told to go on."""

    def __init__(self, registry: MockRegistry) -> None:
        self._registry = registry
        self.go_on = threading.Event()

    async def _wait(self) -> None:
        # Where the test has failed, it shall end.
        await asyncio.to_thread(self.go_on.wait, PATIENCE)
        self.go_on.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = BEGINNING

        async def held_receive() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                await self._wait()
            return message

        async def held_send(message: Message) -> None:
            body = message.get("body", b"")
            if len(body) > left:
                await send({**message, "body": body[:left], "more_body": True})
                await self._wait()
                message = {**message, "body": body[left:]}
            await send(message)

        plain = {**scope, "extensions": {}} if scope["type"] == "http" else scope
        await self._registry(plain, held_receive, held_send)


# More than the beginning and all that the buffers of a connection take.
BIG, BEGINNING = 32_000_000, 1_000_000
PATIENCE = 20.0
MANY = 2


@dataclass
class Halfway:
    """A transfer to or from a registry that goes on once each layer was shown between nothing and all.

    Attributes:
        holding: the registry.
        words: the command line.
        moved: what was last shown of each layer, in bytes.
    """

    holding: Holding
    words: list[str]
    moved: dict[str, int] = field(default_factory=dict)
    shown: bool = False

    def show(self, digest: str, moved: int) -> None:
        self.moved[digest] = moved
        if sum(0 < each < BIG for each in self.moved.values()) == MANY:
            self.shown = True
            self.holding.go_on.set()


@pytest.fixture(params=["push", "pull"])
def halfway(
    request: pytest.FixtureRequest, regsim: Regsim, empty_layout: Layout, serve: Serve, tmp_path: Path
) -> Halfway:
    empty_layout.add_image("v1", *(bytes([number]) * BIG for number in range(MANY)))
    registry = MockRegistry()
    holding = Holding(registry)
    source, target = f"{empty_layout}:v1", f"{serve(registry, holding).host}/app:1"
    if request.param == "pull":
        holding.go_on.set()
        assert regsim("push", source, target).code == 0
        holding.go_on.clear()
        source, target = target, f"oci:{tmp_path / 'pulled'}"
    return Halfway(holding, [request.param, source, target])


def test_a_listener_hears_how_far_each_blob_has_come(halfway: Halfway) -> None:
    sizes: dict[str, int] = {}

    def listener(event: Event) -> None:
        if event.step is Step.CHECK_BLOB and event.found is False:
            sizes[event.descriptor.digest] = event.descriptor.size
        if event.moment is Moment.PROGRESS:
            halfway.show(event.descriptor.digest, event.moved)

    async def move() -> None:
        direction, source, target = halfway.words
        async with Client(plain_http=True) as client:
            await getattr(client, direction)(source, target, listener=listener)

    asyncio.run(move())
    assert halfway.shown
    assert sorted(sizes.values())[1:] == [BIG] * MANY  # and the config


class Watched(io.StringIO):
    """Standard error that tells of each text that is written to it, without cursors and colours."""

    def __init__(self, told: Callable[[str], None]) -> None:
        super().__init__()
        self._told = told

    def write(self, text: str) -> int:
        self._told(re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", text))
        return super().write(text)


def test_json_tells_how_far_each_blob_has_come(halfway: Halfway, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(text: str) -> None:
        event = json.loads(text)
        if event["moment"] == "progress":
            halfway.show(event["digest"], event["moved"])

    monkeypatch.setattr(sys, "stderr", Watched(told))
    assert main([*halfway.words, "--progress", "json"]) == 0
    assert halfway.shown


def test_bars_and_their_sum_move(halfway: Halfway, monkeypatch: pytest.MonkeyPatch) -> None:
    sums: list[float] = []

    def told(text: str) -> None:
        sums.extend(map(float, re.findall(r"of 3 blobs .* (\S+)MB of 64MB", text)))
        for blob, moved in re.findall(r"loading (\w{12}) .* (\S+)MB of 32MB", text):
            halfway.show(blob, int(float(moved) * 10**6))

    monkeypatch.setattr(sys, "stderr", Watched(told))
    assert main([*halfway.words, "--progress", "bar"]) == 0
    assert halfway.shown
    assert sums == sorted(sums)
    assert any(0 < each < 64 for each in sums)


# The bars themselves.


def event(step: Step, moment: Moment, name: str, size: int, moved: int = 0, **more: bool) -> Event:
    descriptor = Descriptor(
        media_type=media_types.OCI_LAYER, digest=Descriptor.of(name.encode(), "x").digest, size=size
    )
    return Event(step=step, moment=moment, descriptor=descriptor, moved=moved, found=more.get("found"))


class Terminal(io.StringIO):
    """A terminal, of which tests see what stands on it at the end."""

    encoding = "utf-8"

    @property
    def text(self) -> list[str]:
        screen = Screen()
        screen.feed(self.getvalue())
        return [re.sub(" *[━╸╺]+ *", " | ", line) for line in screen.text]


def test_bars_fill_and_the_sum_counts_what_is_still_to_come() -> None:
    terminal, now = Terminal(), [0.0]
    bars = Bars(terminal, clock=lambda: now[0])
    for name, size in (("a", 1000), ("b", 3000), ("c", 500)):
        bars.show(event(Step.CHECK_BLOB, Moment.COMPLETED, name, size, found=False))
    assert terminal.getvalue() == ""  # nothing moves yet
    bars.show(event(Step.MOUNT, Moment.COMPLETED, "c", 500, found=True))
    bars.show(event(Step.UPLOAD, Moment.STARTED, "a", 1000))
    now[0] = 1.0
    bars.show(event(Step.UPLOAD, Moment.PROGRESS, "a", 1000, 500))
    bars.refresh()
    name = Descriptor.of(b"a", "x").digest.short
    assert terminal.text == ["0 of 2 blobs | 500B of 4kB", f"uploading {name} | 500B of 1kB"]
    now[0] = 2.0
    bars.show(event(Step.UPLOAD, Moment.COMPLETED, "a", 1000, 1700))
    bars.show(event(Step.UPLOAD, Moment.STARTED, "b", 3000))
    bars.refresh()
    assert terminal.text[0] == "1 of 2 blobs | 1kB of 4kB, 500B/s"
    bars.close()
    assert terminal.text == []


def test_an_empty_blob_has_a_bar() -> None:
    terminal = Terminal()
    bars = Bars(terminal)
    bars.show(event(Step.DOWNLOAD, Moment.STARTED, "a", 0))
    bars.refresh()
    assert terminal.text[-1].endswith("0B of 0B")
    bars.close()


def test_a_warning_stands_above_the_bars() -> None:
    terminal = Terminal()
    bars = Bars(terminal)
    bars.show(event(Step.UPLOAD, Moment.STARTED, "a", 1000))
    bars.warn("the registry says \x1b[2J")
    bars.close()
    assert terminal.text == ["the registry says \\x1b[2J"]


def test_what_failed_is_no_longer_shown_and_a_terminal_that_has_gone_stops_nothing() -> None:
    class Gone(Terminal):
        gone = False

        def write(self, text: str) -> int:
            if self.gone:
                raise OSError
            return super().write(text)

    terminal = Gone()
    bars = Bars(terminal)
    bars.show(event(Step.UPLOAD, Moment.STARTED, "a", 1000))
    bars.show(event(Step.UPLOAD, Moment.FAILED, "a", 1000, 10))
    bars.refresh()
    assert terminal.text == ["0 of 1 blob | 10B of 1kB"]
    terminal.gone = True
    bars.show(event(Step.UPLOAD, Moment.STARTED, "a", 1000))
    bars.close()
