"""`regsim run`: scenarios, and what they came to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from regsim.cli.output import Format, report, show, status
from regsim.cli.running import run as run_to_end
from regsim.errors import ExitCode, UsageError, worst


def run(
    *scenarios: str,
    registry: str | None = None,
    model: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    set: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,  # noqa: A002  (the flag)
    json: Path | None = None,
    format: Format = Format.TEXT,  # noqa: A002  (the flag is called --format)
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    prefix: str | None = None,
    keep: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative=())] = False,
) -> ExitCode:
    """Run scenarios: say what moved, what was saved, and whether the registry agrees.

    Args:
        scenarios: scenario files, or names of shipped ones.
        registry: mock, or the URL of one that is running.
        model: decide without HTTP and without bytes.
        dry_run: ask the registry everything, write nothing.
        set: KEY=VALUE, changes a value of the scenario; repeatable.
        json: also write the result as JSON to this file.
        format: text or json.
        output: print to this file instead.
        prefix: repository below which all others are put.
        keep: leave what was pushed in a registry that was already running.
        quiet: print nothing but the report and errors.
    """
    if not scenarios:
        raise UsageError("no scenario given", hint=_shipped())
    if model and (dry_run or registry is not None):
        raise UsageError("--model has no registry to ask", hint="leave out --dry-run and --registry")
    from regsim.cli.scenarios import Choice, run_all  # noqa: PLC0415  (helping needs no HTTP client)

    choice = Choice(
        registry=registry,
        model=model,
        dry_run=dry_run,
        overrides=tuple(set or ()),
        prefix=prefix,
        keep=keep,
        tell=(lambda _line: None) if quiet else status,
    )
    results = run_to_end(run_all(scenarios, choice))
    report(results, form=format, output=output)
    if json is not None:
        report(results, form=Format.JSON, output=json)
    for result in results:
        for error in [
            result.error,
            *(each.ledger.error for each in result.transfers if not each.expected_error),
        ]:
            if error is not None:
                show(error)
    return worst(*(result.exit_code for result in results))


def _shipped() -> str:
    from regsim.scenario.find import shipped  # noqa: PLC0415  (only asked for in an error)

    return "shipped ones are " + ", ".join(scenario.name for scenario in shipped())
