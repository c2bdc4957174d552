"""Progress on standard error: bars on a terminal, plain lines elsewhere, JSON for programs, or none."""

from __future__ import annotations

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
from typing import TYPE_CHECKING

import pytest

from regsim.cli.progress import Bars
from regsim.core import Descriptor, media_types
from regsim.transfer.events import Event, Moment, Step

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Layout, Regsim, Served

COMMAND = [sys.executable, "-W", "error", "-m", "regsim"]
LONG = 60.0


class Screen:
    """As much of a terminal as bars use: lines, going up, and clearing."""

    def __init__(self) -> None:
        self.lines = [""]
        self.row = 0

    def feed(self, text: str) -> None:
        for token in re.findall(r"\x1b\[\d*[A-Z]|\r|\n|[^\x1b\r\n]+", text):
            if token == "\n":
                self.row += 1
                if self.row == len(self.lines):
                    self.lines.append("")
            elif match := re.fullmatch(r"\x1b\[(\d+)A", token):
                self.row -= int(match[1])
                assert self.row >= 0, "the cursor left what was drawn"
            elif token == "\x1b[J":
                self.lines = [*self.lines[: self.row], ""]
            elif token == "\x1b[K":
                pass  # whatever followed on the line, of which nothing is kept here
            elif token != "\r":
                self.lines[self.row] = token

    @property
    def text(self) -> list[str]:
        return [line for line in self.lines if line]


def at_a_terminal(
    *words: str, columns: int = 80, environment: dict[str, str] | None = None
) -> tuple[bytes, str]:
    """Run the command line with standard error at a terminal; return what it printed on either."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    seen: list[bytes] = []

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
            env={**os.environ, "TERM": "xterm", **(environment or {})},
        )
    finally:
        os.close(theirs)
        reading.join(LONG)
    assert done.returncode == 0
    return done.stdout, b"".join(seen).decode()


def test_a_terminal_shows_bars_that_are_gone_in_the_end(layout: Layout, registry: Served) -> None:
    out, err = at_a_terminal("push", f"{layout}:v1", f"{registry.host}/app:1", "--format", "json")
    assert json.loads(out)["summary"]["by_outcome"]["transferred"]["count"] == 4
    assert re.search(r"uploading [0-9a-f]{12} \[-{24}\] 0B of \d+k?B", err)
    assert re.search(r"0 of \d blobs, 0B of \d+k?B", err)
    screen = Screen()
    screen.feed(err)
    assert screen.text == []


@pytest.mark.parametrize("columns", [20, 40])
def test_no_line_is_wider_than_the_terminal(layout: Layout, registry: Served, columns: int) -> None:
    _, err = at_a_terminal("push", f"{layout}:v1", f"{registry.host}/app:1", columns=columns)
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[\d*[A-Z]", "", err))
    assert max(map(len, lines)) == columns - 1


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}], ids=["dumb", "no color"])
def test_what_a_terminal_cannot_do_is_not_asked_of_it(
    layout: Layout, registry: Served, environment: dict[str, str]
) -> None:
    _, err = at_a_terminal("push", f"{layout}:v1", f"{registry.host}/app:1", environment=environment)
    assert "\x1b[3" not in err  # a colour
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


# The bars themselves.


def event(step: Step, moment: Moment, name: str, size: int, moved: int = 0, **more: bool) -> Event:
    descriptor = Descriptor(
        media_type=media_types.OCI_LAYER, digest=Descriptor.of(name.encode(), "x").digest, size=size
    )
    return Event(step=step, moment=moment, descriptor=descriptor, moved=moved, found=more.get("found"))


def drawn(stream: io.StringIO) -> list[str]:
    screen = Screen()
    screen.feed(stream.getvalue())
    return screen.text


def test_bars_fill_and_the_sum_counts_what_is_still_to_come() -> None:
    stream, now = io.StringIO(), [0.0]
    bars = Bars(stream, clock=lambda: now[0])
    for name, size in (("a", 1000), ("b", 3000), ("c", 500)):
        bars.show(event(Step.CHECK_BLOB, Moment.COMPLETED, name, size, found=False))
    assert stream.getvalue() == ""  # nothing moves yet
    bars.show(event(Step.MOUNT, Moment.COMPLETED, "c", 500, found=True))
    bars.show(event(Step.UPLOAD, Moment.STARTED, "a", 1000))
    now[0] = 0.05
    bars.show(event(Step.UPLOAD, Moment.PROGRESS, "a", 1000, 100))  # too soon to draw again
    now[0] = 1.0
    bars.show(event(Step.UPLOAD, Moment.PROGRESS, "a", 1000, 500))
    assert drawn(stream) == [
        f"uploading {Descriptor.of(b'a', 'x').digest.short} [############------------] 500B of 1kB",
        "0 of 2 blobs, 500B of 4kB, 500B/s",
    ]
    bars.show(event(Step.UPLOAD, Moment.COMPLETED, "a", 1000, 1700))
    now[0] = 2.0
    bars.show(event(Step.UPLOAD, Moment.STARTED, "b", 3000))
    assert drawn(stream)[-1] == "1 of 2 blobs, 1kB of 4kB, 500B/s"
    bars.close()
    assert drawn(stream) == []


def test_many_moves_do_not_fill_the_screen_and_an_empty_blob_has_a_bar() -> None:
    stream = io.StringIO()
    now = iter(range(100))
    bars = Bars(stream, clock=lambda: float(next(now)))
    for number in range(12):
        bars.show(event(Step.DOWNLOAD, Moment.STARTED, str(number), 0))
    lines = drawn(stream)
    assert len(lines) == 10
    assert lines[0].endswith(f"[{'#' * 24}] 0B of 0B")
    assert lines[-2] == "and 4 more"


def test_a_warning_stands_above_the_bars(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars(sys.stderr, clock=lambda: 0.0)
    bars.show(event(Step.UPLOAD, Moment.STARTED, "a", 1000))
    bars.warn("the registry says \x1b[2J")
    bars.close()
    screen = Screen()
    screen.feed(capsys.readouterr().err)
    assert screen.text == ["the registry says \\x1b[2J"]


def test_what_failed_is_no_longer_shown_and_a_terminal_that_has_gone_stops_nothing() -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError

    bars = Bars(Gone(), clock=lambda: 0.0)
    bars.show(event(Step.UPLOAD, Moment.STARTED, "a", 1000))
    bars.show(event(Step.UPLOAD, Moment.FAILED, "a", 1000, 10))
    bars.close()
    assert bars._moving == {}
