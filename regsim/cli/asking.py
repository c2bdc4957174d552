"""Commands that ask something and print the answer.

Owns what they have in common: connecting, asking, and an error as JSON where that is wanted. Must not know
what is asked.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from regsim.cli.connecting import Connecting
from regsim.cli.output import Format, check_outputs, write
from regsim.client.address import registries
from regsim.errors import RegsimError

if TYPE_CHECKING:
    from regsim.client.client import Client

T = TypeVar("T")


def ask(
    question: Callable[[Client], Awaitable[T]],
    render: Callable[[T, Format], str | bytes],
    connecting: Connecting | None,
    *,
    address: str | None = None,
    host: str | None = None,
    form: Format = Format.TEXT,
    output: Path | None = None,
) -> None:
    """Ask a client something and print the answer.

    Args:
        question: what to ask.
        render: returns the answer as it is printed, octets as they are.
        connecting: how to connect; None: as usual.
        address: what it is asked about, to know whom credentials are for;
        host: or the registry, where it is about all of it.
        form: of the answer, and of an error besides the line on standard error.
        output: print to this file instead.

    Raises:
        RegsimError: there is no answer, or nobody takes it.
    """
    try:
        check_outputs(output)
        hosts = (host,) if host is not None else registries(*(() if address is None else (address,)))
        answer = _answer(question, (connecting or Connecting()).client(*hosts))
    except RegsimError as error:
        if form is Format.JSON:
            from regsim.core.result import error_document  # noqa: PLC0415  (helping needs no results)

            write(json.dumps({"error": error_document(error)}, indent=2) + "\n", output)
        raise
    write(render(answer, form), output)


def _answer(question: Callable[[Client], Awaitable[T]], client: Client) -> T:
    from regsim.cli.running import run  # noqa: PLC0415  (helping needs no event loop)

    async def asked() -> T:
        async with client:
            return await question(client)

    return run(asked())
