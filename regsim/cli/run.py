"""`regsim run`: scenarios, and what they came to."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from regsim.cli.connecting import Connecting
from regsim.cli.output import Format, check_outputs, status
from regsim.cli.verdict import Wanted, conclude, failing
from regsim.core.result import Mode
from regsim.errors import ExitCode, UsageError


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
    connecting: Connecting | None = None,
) -> ExitCode:
    """Run scenarios: say what moved, what was saved, and whether the registry agrees.

    Args:
        scenarios: scenario files, or names of shipped ones.
        registry: mock, the URL of one that is running, or container[:IMAGE], started and removed again.
        model: decide without HTTP and without bytes.
        dry_run: ask the registry everything, write nothing.
        set: KEY=VALUE, changes a value of the scenario; repeatable.
        json: also write the result as JSON to this file.
        format: text or json.
        output: print to this file instead.
        prefix: repository below which all others are put.
        keep: leave what was pushed in a registry that was already running.
        quiet: print nothing but the report and errors.
        connecting: see below, for a registry that was already running.
    """
    connecting = connecting or Connecting()
    wanted = Wanted(form=format, output=output, json=json, several=len(scenarios) > 1)
    mode = Mode.MODEL if model else Mode.PLAN if dry_run else Mode.WIRE
    if output is not None and output == json:
        raise UsageError(f"--output and --json name the same file: {json}")
    with failing(wanted, mode):
        if not scenarios:
            _tell_shipped()
            raise UsageError("no scenario given", hint="name one of these, or a file: regsim run shared-base")
        if model and (dry_run or registry is not None or prefix is not None or keep):
            raise UsageError(
                "--model has no registry", hint="leave out --dry-run, --registry, --prefix and --keep"
            )
        check_outputs(output, json)
        from regsim.cli.running import run as run_to_end  # noqa: PLC0415  (not needed for help)
        from regsim.cli.scenarios import Choice, hosts, load_all, run_all  # noqa: PLC0415  (likewise)
        from regsim.registry.transport import Transport  # noqa: PLC0415  (likewise)

        choice = Choice(
            mode=mode,
            registry=registry,
            overrides=tuple(set or ()),
            prefix=prefix,
            keep=keep,
            tell=_ignore if quiet else status,
        )
        loaded = load_all(scenarios, choice)
        connect = partial(Transport, connection=connecting.connection(*hosts(loaded)))
    return conclude(run_to_end(run_all(loaded, choice, connect)), wanted)


def _ignore(_line: str) -> None:
    """Tell nobody."""


def _tell_shipped() -> None:
    from regsim.scenario.find import shipped  # noqa: PLC0415  (only asked for in an error)

    for scenario in shipped():
        status(f"{scenario.name:<16}  {scenario.description}")
