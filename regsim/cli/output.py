"""Where results go: data to standard output or a file, status and errors to standard error."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from regsim.errors import LocalFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regsim.errors import RegsimError
    from regsim.result import RunResult
    from regsim.transfer.events import Event


class Format(StrEnum):
    """How a result is written."""

    TEXT = "text"
    JSON = "json"


def report(results: Sequence[RunResult], *, form: Format, output: Path | None) -> None:
    """Write results in one format to `output`, or to standard output.

    Raises:
        LocalFileError: the file cannot be written.
    """
    from regsim.report import document, text  # noqa: PLC0415  (not needed to parse a command line)

    if form is Format.JSON:
        write(document.render(results), output)
    else:
        write("\n".join(text.render(result) for result in results), output)


def write(text: str, output: Path | None) -> None:
    """Write text to a file, or to standard output.

    Raises:
        LocalFileError: the file cannot be written.
    """
    if output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LocalFileError(f"cannot write {output}: {error.strerror}") from error


def status(line: str) -> None:
    """Print a line of status."""
    print(line, file=sys.stderr, flush=True)


def narrate(event: Event) -> None:
    """Print what has just been moved, mounted or stored."""
    from regsim.report.quantities import size  # noqa: PLC0415  (likewise)
    from regsim.transfer.events import Moment, Step  # noqa: PLC0415

    words = {Step.UPLOAD: "uploaded", Step.DOWNLOAD: "downloaded", Step.PUT_MANIFEST: "stored manifest"}
    word = words.get(event.step)
    if word is not None and event.moment is Moment.COMPLETED:
        status(f"{word} {event.descriptor.digest.short} ({size(event.descriptor.size)})")


def show(error: RegsimError) -> None:
    """Print an error and its hint to standard error."""
    for line in error.message.splitlines():
        print(f"Error: {line}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
