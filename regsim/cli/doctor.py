"""`regsim doctor`: is this machine fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from regsim.cli.output import Format, check_outputs, printable, write
from regsim.errors import ExitCode, worst

if TYPE_CHECKING:
    from regsim.cli.checkup import Finding


def doctor(
    *,
    format: Format = Format.TEXT,  # noqa: A002  (the flag is called --format)
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
) -> ExitCode:
    """Look at this machine, and test a push and a pull on it, without leaving it.

    Args:
        format: text or json.
        output: print to this file instead.
    """
    check_outputs(output)
    from regsim.cli.checkup import findings  # noqa: PLC0415  (helping needs no registry)
    from regsim.cli.running import run  # noqa: PLC0415  (nor an event loop)

    async def look() -> list[Finding]:
        return [each async for each in findings()]

    found = run(look())
    code = worst(*(each.exit_code for each in found))
    if format is Format.JSON:
        document = {"findings": [each.to_json() for each in found], "exit_code": int(code)}
        write(json.dumps(document, indent=2) + "\n", output)
    else:
        write("".join(f"{each.state:<8} {each.name}: {printable(each.detail)}\n" for each in found), output)
    return code
