"""What commands have in common: running their work through Ctrl-C and SIGTERM, and printing its result.

Owns what signals mean (the first one cancels the work, whose partial result is still printed; a second one
ends the process at once), how answers, results and errors are printed as text or JSON, and the exit code of
results. Must not know what is asked.
"""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from regsim.cli.connecting import Connecting
from regsim.cli.output import Printing, check_outputs, complain, show, status, write, write_json
from regsim.client.image_address import registries
from regsim.core.quantities import number
from regsim.core.result import Mode, RunResult, error_document
from regsim.errors import AccountsError, ExitCode, LocalFileError, RegsimError, cancellation, worst
from regsim.report import document, text

if TYPE_CHECKING:
    from regsim.client.client import Client

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in an event loop; an interrupt cancels it, and it may still return what it has.

    Raises:
        KeyboardInterrupt: it was interrupted and returned nothing.
    """
    import asyncio  # noqa: PLC0415  (a model needs no event loop)

    # Beside the task: when asyncio takes signals back it writes out what a task returned.
    returned: list[T] = []

    async def guarded() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101  (a coroutine runs in one)
        with _interrupted_by_signals(lambda: loop.call_soon_threadsafe(task.cancel)):
            returned.append(await work)

    _collect_garbage()
    try:
        asyncio.run(guarded())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    return returned[0]


def drive(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` that waits for nothing without an event loop; else as `run`.

    An interrupt cancels it when it next gives up its turn, which it does before each transfer.
    """
    interrupts: list[bool] = []
    _collect_garbage()
    with _interrupted_by_signals(lambda: interrupts.append(True)):
        try:
            while True:
                if interrupts:
                    interrupts.clear()
                    work.throw(cancellation())
                else:
                    work.send(None)
        except StopIteration as end:
            return cast("T", end.value)
        except cancellation():
            raise KeyboardInterrupt from None


def _collect_garbage() -> None:
    if not gc.isenabled():
        # `regsim.__main__` switched it off for the start; what exists by now stays for the whole process.
        gc.freeze()
        gc.enable()


@contextmanager
def _interrupted_by_signals(interrupt: Callable[[], object]) -> Iterator[None]:
    """Call `interrupt` on the first signal; the next one ends the process.

    Signals that are ignored stay so.
    """
    before: dict[signal.Signals, Any] = {}

    def first(*_: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        interrupt()

    if threading.current_thread() is threading.main_thread():
        # A shell makes what it starts in the background ignore Ctrl-C, and nohup does so with SIGHUP.
        before = {each: found for each in _SIGNALS if (found := signal.getsignal(each)) != signal.SIG_IGN}
    for each in before:
        signal.signal(each, first)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def ask(
    question: Callable[[Client], Awaitable[T]],
    flags: Printing,
    render: Callable[[T], str | bytes],
    as_json: Callable[[T], Any] | None = None,
    *,
    address: str | None = None,
    host: str | None = None,
) -> None:
    """Ask a client something and print the answer.

    Args:
        question: what to ask.
        flags: how and where to print the answer, and an error as JSON as well as on standard error; if
            they are `Connecting` too, how to connect to registries.
        render: returns the answer as text, or as bytes that are printed unchanged.
        as_json: returns the answer as JSON values; None: `render` serves every format.
        address: what is asked about: `--creds` are for its registry.
        host: the registry, if the question is about all of it.

    Raises:
        RegsimError: there is no answer, or it could not be written.
    """
    with errors_as_json(flags):
        check_outputs(flags.output)
        hosts = (host,) if host is not None else registries(*(() if address is None else (address,)))
        connecting = flags if isinstance(flags, Connecting) else Connecting()
        from regsim.client.client import Client  # noqa: PLC0415  (--help needs no HTTP client)

        client = Client.over(connecting.connection(*hosts), warn=status)

        async def asked() -> T:
            async with client:
                return await question(client)

        answer = run(asked())
    if flags.format == "json" and as_json is not None:
        write_json(as_json(answer), flags.output)
    else:
        write(render(answer), flags.output)


@contextmanager
def errors_as_json(printing: Printing) -> Iterator[None]:
    """With `--format json`, print an error of the block as `{"error": …}` and raise it again."""
    try:
        yield
    except RegsimError as error:
        if printing.format == "json":
            write_json({"error": error_document(error)}, printing.output)
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How results of transfers are printed.

    Attributes:
        printing: how, and where.
        json: a file that takes them as JSON too.
        several: as an array, whatever their number.
    """

    printing: Printing
    json: Path | None = None
    several: bool = False

    @property
    def reports(self) -> tuple[Printing, ...]:
        """Each report that is wanted: how, and where."""
        more = (Printing(format="json", output=self.json),) if self.json is not None else ()
        return (self.printing, *more)


def conclude(results: Sequence[RunResult], wanted: Wanted) -> ExitCode:
    """Write results, print on standard error what is wrong with them, and return the worst exit code."""
    codes = [result.exit_code for result in results]
    for report in wanted.reports:
        try:
            write(_render(results, report, several=wanted.several), report.output)
        except LocalFileError as error:
            codes.append(error.exit_code)
            show(error)
    for result in results:
        _tell(result, about=f"{result.scenario}: " if wanted.several and result.scenario else "")
    return worst(*codes)


@contextmanager
def failing(wanted: Wanted, mode: Mode) -> Iterator[None]:
    """With `--format json`, print an error of the block as a result without transfers, and raise it again."""
    try:
        yield
    except RegsimError as error:
        result = RunResult(mode=mode, error=error)
        for report in wanted.reports:
            if report.format == "json":
                write(_render([result], report, several=wanted.several), report.output)
        raise


def _render(results: Sequence[RunResult], report: Printing, *, several: bool) -> str:
    if report.format == "json":
        return document.render(results, several=several)
    return "\n".join(text.render(each, width=report.width) for each in results if not _only_failed(each))


def _only_failed(result: RunResult) -> bool:
    """Tell whether the error, which is printed anyway, is all that there is to say about a transfer."""
    listed = any(transfer.ledger.entries for transfer in result.transfers)
    return result.scenario is None and bool(result.errors) and not listed


def _tell(result: RunResult, *, about: str) -> None:
    errors = {str(error): error for error in result.errors}
    for error in list(errors.values())[:1]:
        show(error, about=about)
    if len(errors) > 1:
        status(f"and {number(len(errors) - 1, 'other error')}, which the report lists")
    differences = result.reconciliation.differences
    if result.reconciliation.matched is False:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        show(AccountsError(f"the accounts do not agree: {differences[0]}{more}"), about=about)
    failed = [check for check in result.checks if not check.passed]
    if failed:
        first = text.check_words(failed[0])
        complain(f"{about}{len(failed)} of {number(len(result.checks), 'check')} failed: {first}")
    if result.interrupted:
        status(f"{about}interrupted; the report says what had been done")
