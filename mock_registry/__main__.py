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

from . import DirectoryError, DirectoryStorage, Journal, MockRegistry, Record
from .auth.options import add_auth_options, auth_from_options
from .optional import MissingPackageError
from .service import SESSION_LIFETIME
from .tls import Certificate, CertificateError


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
    parser.add_argument(
        "--tls",
        metavar="self-signed|CERT,KEY",
        help="speak TLS, with a certificate made on the spot or with PEM files; the second line printed is "
        "the file that clients check it by",
    )
    add_auth_options(parser)
    _add_storage_options(parser)
    options = parser.parse_args(arguments)
    if options.durable and options.dir is None:
        parser.error("--durable is for what is kept in a directory: give it one with --dir")
    try:
        options.auth = auth_from_options(options)
        options.tls = None if options.tls is None else Certificate.parse(options.tls)
    except (MissingPackageError, OSError, ValueError) as error:
        parser.error(str(error))
    return options


def _add_storage_options(parser: argparse.ArgumentParser) -> None:
    """Add what tells where content is kept, and for how long."""
    group = parser.add_argument_group("storage")
    group.add_argument(
        "--dir",
        metavar="PATH",
        help="keep everything in this directory, made if missing, for the next start; it survives a kill "
        "at any moment (default: keep nothing)",
    )
    group.add_argument(
        "--durable",
        action="store_true",
        help="with --dir, flush to the disk before anything is acknowledged, to survive a loss of power too",
    )
    group.add_argument(
        "--session-lifetime",
        type=_seconds,
        default=SESSION_LIFETIME,
        metavar="SECONDS",
        help="end an upload session that nobody has used for so long (default: %(default)g)",
    )
    group.add_argument(
        "--collect-after",
        type=_seconds,
        metavar="SECONDS",
        help="free blobs that no manifest mentions, so long after their last use (default: never)",
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"not a number of seconds: {text}")
    return value


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
    storage = None if options.dir is None else DirectoryStorage(options.dir, durable=options.durable)
    registry = MockRegistry(
        journal=journal,
        auth=options.auth,
        storage=storage,
        session_lifetime=options.session_lifetime,
        collect_after=options.collect_after,
        read_only=options.read_only,
    )
    async with registry.serve(options.host, options.port, tls=options.tls) as server:
        sys.stdout.write(server.url + "\n")
        if server.ca is not None:
            sys.stdout.write(f"{server.ca}\n")
        sys.stdout.flush()
        await stop.wait()


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(options))
    except (CertificateError, MissingPackageError) as error:
        sys.stderr.write(f"Error: cannot speak TLS: {error}\n")
        return 6
    except DirectoryError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.stderr.write("hint: give --dir an empty directory, or that of a registry which is not running\n")
        return 6
    except OSError as error:
        if error.filename is not None:
            sys.stderr.write(f"Error: {error.filename}: {error.strerror}\n")
            return 6
        sys.stderr.write(f"Error: cannot listen on {options.host}:{options.port}: {error.strerror}\n")
        sys.stderr.write("hint: --port 0 takes any free port\n")
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
