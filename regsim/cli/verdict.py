"""What results come to: written where they are wanted, failures told, and the exit code.

Owns the last words of a command. Must not know what it did.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from regsim.cli.output import Format, complain, show, status, write
from regsim.core.result import Mode, RunResult
from regsim.errors import AccountsError, ExitCode, LocalFileError, RegsimError, worst
from regsim.report import document, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How results are wanted.

    Attributes:
        form: how they are printed.
        output: the file that they are printed to; None for standard output.
        json: a file that takes them as JSON besides.
        several: as an array, however many there are.
    """

    form: Format = Format.TEXT
    output: Path | None = None
    json: Path | None = None
    several: bool = False

    @property
    def reports(self) -> tuple[tuple[Format, Path | None], ...]:
        """Each report that is wanted: how, and where."""
        beside = ((Format.JSON, self.json),) if self.json is not None else ()
        return ((self.form, self.output), *beside)


def conclude(results: Sequence[RunResult], wanted: Wanted) -> ExitCode:
    """Write results, tell on standard error what is wrong with them, and return the worst exit code."""
    codes = [result.exit_code for result in results]
    for form, output in wanted.reports:
        try:
            write(_render(results, form, several=wanted.several), output)
        except LocalFileError as error:
            codes.append(error.exit_code)
            show(error)
    for result in results:
        _tell(result, about=f"{result.scenario}: " if wanted.several and result.scenario else "")
    return worst(*codes)


@contextmanager
def failing(wanted: Wanted, mode: Mode) -> Iterator[None]:
    """Say it in JSON too, where that is wanted, if nothing can run."""
    try:
        yield
    except RegsimError as error:
        result = RunResult(mode=mode, error=error)
        for form, output in wanted.reports:
            if form is Format.JSON:
                write(_render([result], form, several=wanted.several), output)
        raise


def _render(results: Sequence[RunResult], form: Format, *, several: bool) -> str:
    if form is Format.JSON:
        return document.render(results, several=several)
    return "\n".join(text.render(result) for result in results)


def _tell(result: RunResult, *, about: str) -> None:
    errors = {str(error): error for error in result.errors}
    for error in list(errors.values())[:1]:
        show(error, about=about)
    if len(errors) > 1:
        status(f"and {len(errors) - 1} more, which the report tells")
    differences = result.reconciliation.differences
    if result.reconciliation.matched is False:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        show(AccountsError(f"the accounts do not agree: {differences[0]}{more}"), about=about)
    failed = [check for check in result.checks if not check.passed]
    if failed:
        first = text.check_words(failed[0])
        complain(f"{about}{len(failed)} of {len(result.checks)} checks failed: {first}")
    if result.interrupted:
        status(f"{about}interrupted; the report tells what had been done until then")
