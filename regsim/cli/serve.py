"""`regsim serve`: the mock registry on a port.

The mock registry's own command line says what the options mean; this one shares its names and errors.
"""

from __future__ import annotations

import asyncio
from argparse import Namespace
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from mock_registry.__main__ import FAILURES, explain, options_from_words, registry_from_options
from regsim.cli.output import ignore, status, write
from regsim.cli.running import run
from regsim.errors import ExitCode, LocalFileError, NetworkError, UsageError

_MAX_PORT = 65535
# The journal is not read, and a server may run for weeks.
_RECORDS = 1000
_SEVERAL = ("user", "right", "fault", "warning", "namespace")

_Switch = Annotated[bool, Parameter(negative=())]
_Several = Annotated[list[str] | None, Parameter(negative=())]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, repr=False)
class ServeFlags:
    """The options of a registry.

    Attributes:
        host: the address to listen on.
        port: the port to listen on; 0 takes a free one.
        dir: store everything in this directory, and serve what is in it.
        auth: how clients log in: none, basic or token.
        user: NAME:PASSWORD of a user who can log in; repeatable.
        htpasswd: htpasswd file of users who can log in, with bcrypt hashes.
        right: [USER=]REPOSITORIES:ACTIONS that are allowed, as in 'ci=shop/**:pull,push'; without USER, to
            everyone; repeatable.
        anonymous_pull: allow everyone to pull everything.
        tls: serve TLS: self-signed, or CERT,KEY; the second line printed is the file for clients' --ca-file.
        fault: inject a fault, '[METHOD] [ROUTE] [CONDITION=VALUE...] EFFECT [VALUE]
            [ATTRIBUTE=VALUE...]', as in 'GET blob nth=2 cut 1MB'; repeatable.
        seed: of all random choices in faults.
        profile: behave as a named registry does: distribution-2.8, distribution-3, olareg, ggcr, ecr,
            ghcr, quay, gitlab or acr.
        warning: send this text in a Warning header with every response; repeatable.
        namespace: HOST or HOST=PREFIX; serve as a mirror of HOST, from repositories below PREFIX; repeatable.
        read_only: refuse all writes (405).
        log: how each request is printed on standard error: none, text or json.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    dir: Path | None = None
    auth: Literal["none", "basic", "token"] = "none"
    user: _Several = None
    htpasswd: Path | None = None
    right: _Several = None
    anonymous_pull: _Switch = False
    tls: str | None = None
    fault: _Several = None
    seed: int = 0
    profile: str | None = None
    warning: _Several = None
    namespace: _Several = None
    read_only: _Switch = False
    log: Literal["none", "text", "json"] = "none"


_FLAGS = ServeFlags()


def serve(*, flags: ServeFlags = _FLAGS) -> None:
    """Serve an empty registry until interrupted; without --dir, it is kept in memory and lost at the end.

    Args:
        flags: see below.
    """
    if not 0 <= flags.port <= _MAX_PORT:
        raise UsageError(f"there is no port {flags.port}", hint=f"0 to {_MAX_PORT}; 0 takes a free one")
    several = {name: getattr(flags, name) or [] for name in _SEVERAL}
    try:
        options = options_from_words(**{**vars(flags), **several}, journal_limit=_RECORDS)
    except ValueError as error:
        raise UsageError("; ".join(str(error).splitlines()), hint="see regsim serve --help") from error
    except FAILURES as error:  # an htpasswd file that cannot be read, or bcrypt is not installed
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise LocalFileError(reason) from error
    run(_serve(options))


async def _serve(options: Namespace) -> None:
    """Serve until cancelled.

    Raises:
        LocalFileError: its directory or its certificate cannot be used.
        NetworkError: it cannot listen.
    """
    # A log of JSON Lines holds nothing else.
    tell = ignore if options.log == "json" else status
    async with AsyncExitStack() as stack:
        try:
            registry = registry_from_options(options)
            serving = registry.serve(host=options.host, port=options.port, tls=options.tls)
            server = await stack.enter_async_context(serving)
        except FAILURES as error:
            failure = explain(error, options)
            kind = NetworkError if failure.exit_code == ExitCode.NETWORK else LocalFileError
            raise kind(failure.message, hint=failure.hint) from error
        write("".join(f"{line}\n" for line in (server.url, server.ca) if line is not None), None)
        tell("press Ctrl-C to stop")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            tell("stopping")
