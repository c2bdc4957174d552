"""Progress on standard error: bars on a terminal, plain lines otherwise, or events as JSON, or nothing.

Owns how events are shown. Must not know transfers beyond what events say. Bars are drawn by rich, which is
imported when the first blob moves; nothing is said by colour alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Literal, TextIO, cast

from regsim.cli.output import ignore, printable, status
from regsim.core.quantities import number
from regsim.core.quantities import size as short
from regsim.transfer.events import Event, Moment, Step

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_BAR = 24  # columns

_DONE = {Step.UPLOAD: "uploaded", Step.DOWNLOAD: "downloaded", Step.PUT_MANIFEST: "stored manifest"}
_DOING = {Step.UPLOAD: "uploading", Step.DOWNLOAD: "downloading"}

ProgressKind = Literal["auto", "bar", "plain", "none", "json"]


def display(kind: ProgressKind, *, quiet: bool = False) -> Display:
    """Return what shows progress in a given way; `quiet` shows nothing, not even warnings."""
    if quiet:
        return Lines(warn=ignore)
    if kind == "auto":
        capable = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        kind = "bar" if capable else "plain"
    if kind == "bar" and sys.stderr is not None:
        return Bars(sys.stderr)
    if kind == "json":
        return Lines(_as_json, lambda line: status(json.dumps({"event": "warning", "message": line})))
    return Lines(_plain) if kind == "plain" else Lines()


@dataclass(frozen=True, slots=True)
class Lines:
    """Shows events, and warnings, on lines of their own.

    Attributes:
        line: returns the line of an event, or None to show nothing.
        warn: shows a warning.
    """

    line: Callable[[Event], str | None] = lambda _event: None
    warn: Callable[[str], None] = status

    def show(self, event: Event) -> None:  # noqa: D102
        line = self.line(event)
        if line is not None:
            status(line)

    def close(self) -> None:
        """Do nothing: there is nothing to clear."""


def _plain(event: Event) -> str | None:
    """Return a line for each piece of content that has arrived."""
    if event.moment is not Moment.COMPLETED:
        return None
    word = _DONE.get(event.step) or ("mounted" if event.step is Step.MOUNT and event.found else None)
    return f"{word} {event.descriptor.digest.short} ({short(event.descriptor.size)})" if word else None


def _as_json(event: Event) -> str:
    document = {
        "event": event.step,
        "moment": event.moment,
        "digest": event.descriptor.digest,
        "media_type": event.descriptor.media_type,
        "size": event.descriptor.size,
        "moved": event.moved,
        "found": event.found,
    }
    return json.dumps(document)


@dataclass(slots=True)
class Bars:
    """Shows a bar for each blob that moves, below the sum of all blobs; they are cleared at the end.

    Attributes:
        stream: the terminal.
        clock: seconds, for the rate.
    """

    stream: TextIO
    clock: Callable[[], float] = time.monotonic
    _sizes: dict[str, int] = field(default_factory=dict)
    _moved: dict[str, int] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)
    _bars: dict[str, TaskID] = field(default_factory=dict)
    _drawn: tuple[Progress, TaskID] | None = None

    def show(self, event: Event) -> None:  # noqa: D102
        digest, size = event.descriptor.digest, event.descriptor.size
        if event.step is Step.CHECK_BLOB and event.found is False:
            self._sizes[digest] = size
        elif event.step is Step.MOUNT and event.found:
            self._sizes.pop(digest, None)
        elif event.step in _DOING:
            self._sizes[digest] = size
            self._moved[digest] = size if event.moment is Moment.COMPLETED else min(event.moved, size)
            if event.moment is Moment.COMPLETED:
                self._done.add(digest)
            self._draw(event)
        self._draw_sum()

    def warn(self, line: str) -> None:  # noqa: D102
        if self._drawn is None:
            status(line)
        else:
            self._drawn[0].console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def refresh(self) -> None:
        """Draw now, without waiting for the next of ten times a second."""
        if self._drawn is not None:
            self._drawn[0].refresh()

    def close(self) -> None:  # noqa: D102
        if self._drawn is not None:
            self._drawn[0].stop()

    def _draw(self, event: Event) -> None:
        progress, _ = self._drawn = self._drawn or self._start()
        digest, size = event.descriptor.digest, event.descriptor.size
        if event.moment in (Moment.COMPLETED, Moment.FAILED):
            if digest in self._bars:
                progress.remove_task(self._bars.pop(digest))
            return
        if digest not in self._bars:
            name = f"{_DOING[event.step]} {event.descriptor.digest.short}"
            self._bars[digest] = progress.add_task(name, total=size, amount="")
        moved = self._moved[digest]
        amount = f"{short(moved)} of {short(size)}"
        progress.update(self._bars[digest], completed=moved, amount=amount)

    def _draw_sum(self) -> None:
        if self._drawn is None:
            return
        progress, task = self._drawn
        moved, total = sum(self._moved.values()), sum(self._sizes.values())
        description = f"{len(self._done)} of {number(len(self._sizes), 'blob')}"
        progress.update(task, description=description, completed=moved, total=total)
        rate = progress.tasks[0].speed
        amount = f"{short(moved)} of {short(total)}" + (f", {short(round(rate))}/s" if rate else "")
        progress.update(task, amount=amount)

    def _start(self) -> tuple[Progress, TaskID]:
        # Not before something moves: rich takes 30 ms to import.
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

        console = Console(file=cast("IO[str]", _Lossy(self.stream)), force_terminal=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(_BAR),
            TextColumn("{task.fields[amount]}", markup=False),
        )
        progress = Progress(
            *columns,
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            get_time=self.clock,
        )
        progress.start()
        # A second Ctrl-C kills the process, which must not leave a terminal without a cursor.
        console.show_cursor()
        return progress, progress.add_task("", amount="")


Display = Bars | Lines


@dataclass(frozen=True, slots=True)
class _Lossy:
    """A terminal that may be gone: the transfer goes on without it."""

    stream: TextIO

    def write(self, text: str) -> None:
        with suppress(OSError):
            self.stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
