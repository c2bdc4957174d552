"""``python -m mock_registry``: serve a registry until interrupted.

Owns the command line, and its options in words for other command lines. Must not decide anything a test could
not ask for.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from . import DirectoryError, DirectoryStorage, Journal, MockRegistry, Record
from .auth.options import MODES, auth_from_words
from .errors import MissingPackageError
from .faults.parsing import parse_line
from .faults.profiles import NAMES, profile_named
from .service import SESSION_LIFETIME, Namespaces, warning_headers
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
        f"fault={record.fault}" if record.fault else "",
    )
    return " ".join(str(part) for part in parts if part != "")


LINES: dict[str, Callable[[Record], str]] = {
    "json": lambda record: json.dumps(asdict(record)),
    "text": text_line,
}


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _understand(options)
    except (MissingPackageError, OSError, ValueError) as error:
        parser.error(str(error))
    return options


def options_from_words(**words: Any) -> argparse.Namespace:
    """Return the options as this command line would have them, for another one.

    Args:
        words: The options that were given, named as here: ``dir="registry", fault=["GET blob cut 1MB"]``.

    Raises:
        MissingPackageError: One needs a package that is not installed.
        OSError: The htpasswd file cannot be read.
        ValueError: They make no sense, or not together.
    """
    options = _parser().parse_args([], argparse.Namespace(**words))
    _understand(options)
    return options


def _understand(options: argparse.Namespace) -> None:
    """Put what the words stand for in their place.

    Raises:
        MissingPackageError: As of `options_from_words`, like the others.
    """
    options.auth = auth_from_words(
        options.auth,
        users=options.user,
        htpasswd=options.htpasswd,
        rights=options.right,
        anonymous_pull=options.anonymous_pull,
    )
    options.tls = None if options.tls is None else Certificate.parse(options.tls)
    options.faults = [parse_line(line) for line in options.fault]
    options.namespaces = {
        host: prefix for host, _, prefix in (each.partition("=") for each in options.namespace)
    }
    Namespaces(options.namespaces)  # both complain here of what they cannot say
    warning_headers(options.warning)
    options.profile = None if options.profile is None else profile_named(options.profile)


def _parser() -> argparse.ArgumentParser:
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

    group = parser.add_argument_group("who may do what")
    group.add_argument(
        "--auth", choices=MODES, default="none", help="how clients log in (default: %(default)s)"
    )
    group.add_argument(
        "--user",
        action="append",
        default=[],
        metavar="NAME:PASSWORD",
        help="one who can log in; once for each. Everybody on this machine can read a command line",
    )
    group.add_argument("--htpasswd", metavar="FILE", help="those who can log in, with bcrypt hashes")
    group.add_argument(
        "--right",
        action="append",
        default=[],
        metavar="WHO=REPOSITORIES:ACTIONS",
        help="what someone may do, such as 'ci=shop/**:pull,push'; no WHO is everyone, * all who log in "
        "(default: all who log in may do everything)",
    )
    group.add_argument("--anonymous-pull", action="store_true", help="everyone may pull everything")
    group.add_argument("--read-only", action="store_true", help="refuse all writes (405)")

    group = parser.add_argument_group("storage")
    group.add_argument(
        "--dir",
        metavar="PATH",
        help="keep everything in this directory, made if missing, for the next start; it survives a kill "
        "at any moment (default: keep nothing)",
    )
    group.add_argument(
        "--session-lifetime",
        type=_seconds,
        default=SESSION_LIFETIME,
        metavar="SECONDS",
        help="end an upload session that was not used for so long (default: %(default)g)",
    )
    group.add_argument(
        "--collect-after",
        type=_seconds,
        metavar="SECONDS",
        help="free blobs that no manifest mentions, so long after their last use (default: never)",
    )

    group = parser.add_argument_group("behaviour")
    group.add_argument("--profile", choices=NAMES, help="answer as a named registry does (default: none)")
    group.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="WORDS",
        help="misbehave: '[METHOD] [ROUTE] [CONDITION=VALUE…] EFFECT [VALUE] [ATTRIBUTE=VALUE…]', such as "
        "'PATCH upload nth=2 reset after=100kB' or 'GET blob toxicity=0.1 status 503'; repeatable",
    )
    group.add_argument(
        "--warning",
        action="append",
        default=[],
        metavar="TEXT",
        help="add a Warning header with this text to every answer; repeatable",
    )
    group.add_argument(
        "--namespace",
        action="append",
        default=[],
        metavar="HOST[=PREFIX]",
        help="stand in for this host, as a proxy does: pulls with ?ns=HOST are answered from the "
        "repositories below the prefix; repeatable",
    )
    group.add_argument("--seed", type=int, default=0, help="the seed of random faults (default: %(default)s)")
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"not a number of seconds: {text}")
    return value


def registry_from_options(options: argparse.Namespace) -> MockRegistry:
    """Return the registry that the options ask for, with its log on standard error.

    Raises:
        DirectoryError: The directory is in use by another registry, or is not one's.
        OSError: The directory cannot be made or opened.
    """
    limit = options.journal_limit
    journal = Journal(limit=limit)
    if options.log in LINES:
        journal = PrintingJournal(sys.stderr, LINES[options.log], limit=limit)
    storage = None if options.dir is None else DirectoryStorage(options.dir)
    return MockRegistry(
        journal=journal,
        auth=options.auth,
        storage=storage,
        session_lifetime=options.session_lifetime,
        collect_after=options.collect_after,
        read_only=options.read_only,
        warnings=options.warning,
        namespaces=options.namespaces,
        profile=options.profile,
        faults=options.faults,
        seed=options.seed,
    )


@dataclass(frozen=True, slots=True)
class Failure:
    """What keeps a registry from being served, in words.

    Attributes:
        exit_code: 6 for local files, 4 for the network.
        message: One sentence.
        hint: What to try; may be empty.
    """

    exit_code: int
    message: str
    hint: str = ""


FAILURES = (CertificateError, DirectoryError, MissingPackageError, OSError)
"""What `registry_from_options` and serving it may raise, for `explain`."""


def explain(error: Exception, options: argparse.Namespace) -> Failure:
    """Return the words for one of the `FAILURES`."""
    if isinstance(error, CertificateError | MissingPackageError):
        return Failure(6, f"cannot speak TLS: {error}")
    if isinstance(error, DirectoryError):
        return Failure(
            6, str(error), "give --dir an empty directory, or that of a registry which is not running"
        )
    if not isinstance(error, OSError):
        raise error
    # asyncio words it in its own way; a name that is not found has no number of the system's.
    number = error.errno or 0
    reason = os.strerror(number) if number > 0 else error.strerror
    if error.filename is not None:
        return Failure(6, f"{error.filename}: {reason}")
    return Failure(
        4, f"cannot listen on {options.host}:{options.port}: {reason}", "--port 0 takes any free port"
    )


async def serve(options: argparse.Namespace) -> None:
    """Serve until SIGINT or SIGTERM, then stop gracefully."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    registry = registry_from_options(options)
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
    except FAILURES as error:
        failure = explain(error, options)
        sys.stderr.write(f"Error: {failure.message}\n")
        if failure.hint:
            sys.stderr.write(f"hint: {failure.hint}\n")
        return failure.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
