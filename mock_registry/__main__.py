"""``python -m mock_registry``: serve a registry until interrupted.

Owns the command line. Must not decide anything a test could not ask for.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TextIO

from . import Journal, MockRegistry, Record


class PrintingJournal(Journal):
    """A journal that also prints each record when it is finished, one line each.

    Args:
        file: Where to print to.
        line: Turns a record into the line.
        limit: As of `Journal`.
    """

    def __init__(self, file: TextIO, line: Callable[[Record], str], *, limit: int | None) -> None:
        super().__init__(limit=limit)
        self._file = file
        self._line = line

    def append(self, record: Record) -> None:
        """Add and print a record."""
        super().append(record)
        self._file.write(self._line(record) + "\n")
        self._file.flush()


def json_line(record: Record) -> str:
    """Return a record as a JSON object."""
    return json.dumps(asdict(record))


def text_line(record: Record) -> str:
    """Return a record as a line for people."""
    ended = record.started if record.ended is None else record.ended
    parts = (
        record.status or "---",
        record.method or "-",
        record.target or "-",
        f"in={record.bytes_in}",
        f"out={record.bytes_out}",
        f"{ended - record.started:.3f}s",
        "" if record.complete else "incomplete",
    )
    return " ".join(map(str, parts)).rstrip()


LINES: dict[str, Callable[[Record], str]] = {"json": json_line, "text": text_line}


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "python -m mock_registry", description="Serve an OCI registry for tests."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    parser.add_argument("--port", type=int, default=5000, help="0 takes any free port (default: %(default)s)")
    parser.add_argument(
        "--log", choices=["none", *sorted(LINES)], default="text", help="each request on stderr"
    )
    parser.add_argument(
        "--journal-limit", type=int, default=10_000, help="records kept (default: %(default)s)"
    )
    return parser.parse_args(arguments)


async def serve(options: argparse.Namespace) -> None:
    """Serve until SIGINT or SIGTERM, then stop gracefully."""
    limit = options.journal_limit
    journal = Journal(limit=limit)
    if options.log in LINES:
        journal = PrintingJournal(sys.stderr, LINES[options.log], limit=limit)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with MockRegistry(journal=journal).serve(options.host, options.port) as server:
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        await stop.wait()


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(options))
    except OSError as error:
        sys.stderr.write(f"Error: cannot listen on {options.host}:{options.port}: {error.strerror}\n")
        sys.stderr.write("hint: --port 0 takes any free port\n")
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
