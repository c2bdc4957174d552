"""Where results go: data to standard output or a file, status and errors to standard error.

Owns how anything is written: a file appears whole or not at all, and a reader that closes the pipe early
(`| head`) is not an error. Must not know what is written.
"""

# No `from __future__ import annotations`: cyclopts evaluates those of `Printing` in its subclasses' modules.
import json
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

from cyclopts import Parameter

from regsim.errors import InvalidFileError, LocalFileError, RegsimError, ScenarioError

Output = Annotated[Path | None, Parameter(name=("--output", "-o"))]
Platforms = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Printing:
    """How a command prints its answer.

    Attributes:
        format: text or json.
        output: print to this file instead.
    """

    format: Literal["text", "json"] = "text"
    output: Output = None

    @property
    def width(self) -> int | None:
        """The columns of the terminal that the answer goes to, or None if it goes elsewhere."""
        terminal = self.output is None and sys.stdout is not None and sys.stdout.isatty()
        return shutil.get_terminal_size().columns if terminal else None


PRINTING = Printing()


def check_outputs(*outputs: Path | None) -> None:
    """Check that files can be written, before the work whose result goes there begins.

    Raises:
        LocalFileError: one of them cannot be written.
    """
    from regsim.store.files import file_errors  # noqa: PLC0415  (--help writes no file)

    for output in filter(None, outputs):
        with file_errors(output, "write"):
            directory = output.parent
            if output.is_dir():
                raise LocalFileError(f"cannot write {output}: it is a directory", hint="name a file in it")
            if not directory.is_dir():
                raise LocalFileError(
                    f"cannot write {output}: there is no directory {directory}", hint="make it first"
                )
            if not os.access(output if _is_special(output) else directory, os.W_OK):
                raise LocalFileError(f"cannot write {output}: not permitted", hint="choose another place")


def write(text: str | bytes, output: Path | None) -> None:
    """Write text or bytes to a file, or to standard output if `output` is None.

    If the file cannot be written, the text goes to standard output, so that it is not lost.

    Raises:
        LocalFileError: it could not be written.
    """
    if output is None:
        _write_stream(sys.stdout, text)
        return
    from regsim.store.files import file_errors, write_whole  # noqa: PLC0415  (--help writes no file)

    raw = text if isinstance(text, bytes) else text.encode("utf-8", "backslashreplace")
    try:
        with file_errors(output, "write"):
            if _is_special(output):
                output.write_bytes(raw)
            else:
                write_whole(output.resolve(), raw, durable=False)
    except LocalFileError:
        _write_stream(sys.stdout, text)
        raise


def write_json(document: Any, output: Path | None) -> None:
    """Write a JSON document, indented; arguments and errors as for `write`."""
    write(json.dumps(document, indent=2) + "\n", output)


def status(line: str) -> None:
    """Print a line to standard error; a closed standard error is ignored."""
    with suppress(LocalFileError):
        _write_stream(sys.stderr, f"{printable(line)}\n")


def ignore(_line: str) -> None:
    """Print nothing: what `status` is replaced with."""


def show(error: RegsimError, *, about: str = "") -> None:
    """Print an error and its hint to standard error: one line each, and one for each of a file's problems.

    Args:
        error: what went wrong.
        about: a prefix that says what it happened to.
    """
    from regsim.core.quantities import number  # noqa: PLC0415  (--help counts nothing)

    problems = error.problems if isinstance(error, InvalidFileError) else []
    message = f"{about}{error.message}"
    if problems:
        what = (
            " in the scenario; nothing was run" if isinstance(error, ScenarioError) else "; nothing was built"
        )
        message = f"{number(len(problems), 'error')}{what}"
    complain(message)
    for problem in problems:
        status(problem)
    if error.hint:
        status(f"hint: {error.hint}")


def complain(message: str, hint: str = "") -> None:
    """Print a message as an error."""
    status(f"Error: {message}")
    if hint:
        status(f"hint: {hint}")


def _is_special(path: Path) -> bool:
    """Tell whether this is a pipe or a device, which a rename must not replace."""
    return path.exists() and not path.is_file()


def printable(text: str) -> str:
    """Return text on one line with control characters escaped: it may come from a registry."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text
    )


def _write_stream(stream: TextIO | None, text: str | bytes) -> None:
    """Write to a standard stream, if the process has it.

    Raises:
        LocalFileError: it could not be written.
    """
    if stream is None:
        return
    encoding = stream.encoding or "utf-8"
    try:
        if isinstance(text, bytes):
            stream.flush()
            stream.buffer.write(text)
        else:
            # Paths need not be Unicode, and a terminal need not support all of it.
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        silence(stream)
    except OSError as error:
        silence(stream)
        raise LocalFileError(f"cannot write to standard output: {error.strerror}") from error


def silence(stream: TextIO) -> None:
    """Discard what is still written to a broken stream: Python would fail over it at exit."""
    with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
