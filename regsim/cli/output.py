"""Where results go: data to standard output or a file, status and errors to standard error.

Owns how anything is written: a file appears whole or not at all, and a reader that has had enough (`| head`)
is no error. Must not know what is written.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from regsim.errors import DockerfileError, LocalFileError, ScenarioError

if TYPE_CHECKING:
    from regsim.errors import RegsimError


class Format(StrEnum):
    """How a result is written."""

    TEXT = "text"
    JSON = "json"


def check_outputs(*outputs: Path | None) -> None:
    """Check that files can be written, before anything runs whose result they are to take.

    Raises:
        LocalFileError: one of them cannot.
    """
    from regsim.store.files import file_errors  # noqa: PLC0415  (helping writes no file)

    for output in filter(None, outputs):
        with file_errors(output, "write"):
            _check_output(output)


def _check_output(output: Path) -> None:
    directory = output.parent
    if output.is_dir():
        raise LocalFileError(f"cannot write {output}: it is a directory", hint="name a file in it")
    if not directory.is_dir():
        raise LocalFileError(f"cannot write {output}: there is no directory {directory}")
    if not os.access(output if _is_special(output) else directory, os.W_OK):
        raise LocalFileError(f"cannot write {output}: not permitted", hint="choose another place")


def write(text: str | bytes, output: Path | None) -> None:
    """Write text, or octets as they are, to a file or to standard output.

    What a file does not take goes to standard output, so that it is not lost.

    Raises:
        LocalFileError: it could not be written there.
    """
    if output is None:
        _write_stream(sys.stdout, text)
        return
    from regsim.store.files import file_errors, write_whole  # noqa: PLC0415  (helping writes no file)

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


def status(line: str) -> None:
    """Print a line of status. Nothing depends on somebody reading it."""
    with suppress(LocalFileError):
        _write_stream(sys.stderr, f"{printable(line)}\n")


def show(error: RegsimError, *, about: str = "") -> None:
    """Print an error and its hint to standard error: one line each, and one for each of a file's problems.

    Args:
        error: what went wrong.
        about: what it happened to, where that is not plain.
    """
    if isinstance(error, DockerfileError | ScenarioError):
        count = len(error.problems)
        complain(f"{count} mistake{'' if count == 1 else 's'} in what is to be run; nothing ran")
        for problem in error.problems:
            status(problem)
    else:
        complain(f"{about}{error.message}")
    if error.hint:
        status(f"hint: {error.hint}")


def complain(message: str, hint: str = "") -> None:
    """Print a message as an error."""
    status(f"Error: {message}")
    if hint:
        status(f"hint: {hint}")


def _is_special(path: Path) -> bool:
    """Tell whether this is a pipe or a device, which cannot be replaced by a file."""
    return path.exists() and not path.is_file()


def printable(text: str) -> str:
    """Return text on one line, without what could steer a terminal: much of it is somebody else's."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text
    )


def _write_stream(stream: TextIO | None, text: str | bytes) -> None:
    """Write to a standard stream, if the process has it.

    Raises:
        LocalFileError: it takes no more.
    """
    if stream is None:
        return
    encoding = stream.encoding or "utf-8"
    try:
        if isinstance(text, bytes):
            stream.flush()
            stream.buffer.write(text)
        else:
            # Paths need not be Unicode, and a terminal need not know all of it.
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        silence(stream)
    except OSError as error:
        silence(stream)
        raise LocalFileError(f"cannot write to standard output: {error.strerror}") from error


def silence(stream: TextIO) -> None:
    """Let what is still to be written to a broken stream vanish: at exit Python would fail over it."""
    with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
