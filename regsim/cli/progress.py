"""Progress on standard error: bars on a terminal, plain lines otherwise, or events as JSON, or nothing.

Owns how events are shown. Must not know transfers beyond what events say. Written here: of the libraries for
it, rich takes 27 ms to import, a fifth of what a push with nothing to move takes in all, and the bars need no
more than moving the cursor up. Nothing is coloured, so there is nothing for NO_COLOR to switch off.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TextIO

from regsim.cli.output import printable, status
from regsim.transfer.events import Event, Moment, Step

_WIDTH = 80  # columns, where a terminal does not say
_BAR = 24
_MOST_BARS = 8
_PAUSE = 0.1  # seconds between two drawings: nobody reads faster
_UP, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[{}A", "\x1b[K", "\x1b[J"

_DONE = {Step.UPLOAD: "uploaded", Step.DOWNLOAD: "downloaded", Step.PUT_MANIFEST: "stored manifest"}
_DOING = {Step.UPLOAD: "uploading", Step.DOWNLOAD: "downloading"}


class ProgressKind(StrEnum):
    """How progress is shown."""

    AUTO = "auto"
    BAR = "bar"
    PLAIN = "plain"
    NONE = "none"
    JSON = "json"


class Display(Protocol):
    """Shows events and warnings until it is closed."""

    def show(self, event: Event) -> None:
        """Show an event."""

    def warn(self, line: str) -> None:
        """Show what the user should know though the work goes on."""

    def close(self) -> None:
        """Leave the terminal as a report can follow."""


def display(kind: ProgressKind, *, quiet: bool = False) -> Display:
    """Return what shows progress so; `quiet` shows nothing, not even warnings."""
    if quiet:
        return Silence()
    if kind is ProgressKind.AUTO:
        capable = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        kind = ProgressKind.BAR if capable else ProgressKind.PLAIN
    if kind is ProgressKind.BAR and sys.stderr is not None:
        return Bars(sys.stderr)
    if kind is ProgressKind.JSON:
        return JsonLines()
    return PlainLines() if kind is ProgressKind.PLAIN else WarningsOnly()


class WarningsOnly:
    """Shows warnings, and no event."""

    def show(self, event: Event) -> None:
        """Show nothing."""

    def warn(self, line: str) -> None:  # noqa: D102
        status(line)

    def close(self) -> None:
        """Leave nothing to clear."""


class Silence(WarningsOnly):
    """Shows nothing at all."""

    def warn(self, line: str) -> None:
        """Tell nobody."""


class PlainLines(WarningsOnly):
    """Shows each piece of content on a line of its own when it is there."""

    def show(self, event: Event) -> None:  # noqa: D102
        if event.moment is not Moment.COMPLETED:
            return
        word = _DONE.get(event.step) or ("mounted" if event.step is Step.MOUNT and event.found else None)
        if word is not None:
            status(f"{word} {event.descriptor.digest.short} ({_size(event.descriptor.size)})")


class JsonLines:
    """Shows each event, and each warning, as a JSON object on a line of its own."""

    def show(self, event: Event) -> None:  # noqa: D102
        document = {
            "event": event.step,
            "moment": event.moment,
            "digest": event.descriptor.digest,
            "media_type": event.descriptor.media_type,
            "size": event.descriptor.size,
            "moved": event.moved,
            "found": event.found,
        }
        status(json.dumps(document))

    def warn(self, line: str) -> None:  # noqa: D102
        status(json.dumps({"event": "warning", "message": line}))

    def close(self) -> None:
        """Leave nothing to clear."""


@dataclass(slots=True)
class Bars:
    """Shows a bar for each blob under way and the sum of all below them, which are gone when it is closed.

    Attributes:
        stream: the terminal.
        clock: seconds.
    """

    stream: TextIO
    clock: Callable[[], float] = time.monotonic
    _sizes: dict[str, int] = field(default_factory=dict)
    _moved: dict[str, int] = field(default_factory=dict)
    _moving: dict[str, Event] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)
    _lines: int = 0
    _drawn: float | None = None
    _started: float | None = None

    def show(self, event: Event) -> None:  # noqa: D102
        self._learn(event)
        now = self.clock()
        if self._moving and (self._drawn is None or now - self._drawn >= _PAUSE):
            self._drawn = now
            self._draw(now)

    def warn(self, line: str) -> None:  # noqa: D102
        self._write(self._erased())
        status(line)

    def close(self) -> None:  # noqa: D102
        self._write(self._erased())

    def _learn(self, event: Event) -> None:
        digest, size = event.descriptor.digest, event.descriptor.size
        if event.step is Step.CHECK_BLOB and event.found is False:
            self._sizes[digest] = size
        elif event.step is Step.MOUNT and event.found:
            self._sizes.pop(digest, None)
        elif event.step in _DOING:
            self._sizes[digest] = size
            self._moved[digest] = min(event.moved, size)
            self._moving[digest] = event
            if event.moment in (Moment.COMPLETED, Moment.FAILED):
                del self._moving[digest]
            if event.moment is Moment.COMPLETED:
                self._moved[digest] = size
                self._done.add(digest)

    def _draw(self, now: float) -> None:
        self._started = now if self._started is None else self._started
        shown = list(self._moving.values())[:_MOST_BARS]
        lines = [_bar(each) for each in shown]
        if len(self._moving) > len(shown):
            lines.append(f"and {len(self._moving) - len(shown)} more")
        lines.append(self._sum(now - self._started))
        # One column stays free: some terminals wrap at the last one, and the cursor would be a line off.
        width = _columns(self.stream) - 1
        text = "".join(f"{printable(line)[:width]}{_CLEAR_LINE}\n" for line in lines)
        self._write(self._erased() + text)
        self._lines = len(lines)

    def _sum(self, seconds: float) -> str:
        moved, total = sum(self._moved.values()), sum(self._sizes.values())
        line = f"{len(self._done)} of {len(self._sizes)} blobs, {_size(moved)} of {_size(total)}"
        return f"{line}, {_size(round(moved / seconds))}/s" if seconds > 0 else line

    def _erased(self) -> str:
        text = _UP.format(self._lines) + "\r" + _CLEAR_BELOW if self._lines else ""
        self._lines = 0
        return text

    def _write(self, text: str) -> None:
        # A terminal that has gone is no reason to stop moving.
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError:
            self._lines = 0


def _bar(event: Event) -> str:
    size = event.descriptor.size
    moved = min(event.moved, size)
    full = _BAR * moved // size if size else _BAR
    bar = "#" * full + "-" * (_BAR - full)
    return f"{_DOING[event.step]} {event.descriptor.digest.short} [{bar}] {_size(moved)} of {_size(size)}"


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or _WIDTH
    except (OSError, ValueError):
        return _WIDTH


def _size(count: int) -> str:
    from regsim.core.quantities import size  # noqa: PLC0415  (not needed to parse a command line)

    return size(count)
