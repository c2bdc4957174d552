"""A Dockerfile's text as instructions: continuations, comments, directives, flags, exec forms, heredocs.

Owns the seam to the parser, `e2b_dockerfile_utils`, a port of BuildKit's `frontend/dockerfile/parser`. Must
not know what an instruction means. The parser stops at the first mistake; here the instruction at fault is
put out of the way and the rest is parsed again, so that all mistakes are told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2b_dockerfile_utils import (
    DockerfileSyntaxError,
    chomp_heredoc_content,
    parse_dockerfile_ast,
    parse_heredoc,
)

from regsim.core.suggest import did_you_mean

if TYPE_CHECKING:
    from regsim.image.dockerfile.problems import Problems

MAX_DOCKERFILE = 4 * 1024 * 1024

INSTRUCTIONS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
    "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip

_MAX_MISTAKES = 100
_FIRST_WORD = re.compile(r"^(\s*)(\S+)")
_ON_LINE = re.compile(r"^Dockerfile parse error(?: on line \d+)?: ")
_UNKNOWN = "unknown instruction: "
_UNTERMINATED = "unterminated heredoc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heredoc:
    """A file that stands in the Dockerfile itself.

    Args:
        name: its terminator, and its name where it is copied.
        content: what it holds.
        expand: whether variables in it are replaced: its terminator is not quoted.
    """

    name: str
    content: str
    expand: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One instruction as it is written.

    Args:
        line: where it begins, from 1.
        name: in upper case.
        text: all of it on one line, comments and continuations resolved, without its heredocs.
        flags: what stands before the arguments, such as `--from=build`.
        arguments: the words, quotes and variables as they stand; of ENV and LABEL name, value and `=` or "".
        is_exec: whether they are in JSON form.
        heredocs: in order.
    """

    line: int
    name: str
    text: str
    flags: tuple[str, ...]
    arguments: tuple[str, ...]
    is_exec: bool
    heredocs: tuple[Heredoc, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A Dockerfile's instructions.

    Args:
        instructions: in order.
        escape: the character that escapes: a backslash, or what `# escape=` says.
    """

    instructions: tuple[Written, ...]
    escape: str


def parse_script(text: str, problems: Problems) -> Script:
    """Read a Dockerfile's text; what has no syntax is noted and left out."""
    lines = text.split("\n")
    at_fault: set[int] = set()
    while True:
        try:
            tree = parse_dockerfile_ast("\n".join(lines))
        except RecursionError:
            # The parser reads what begins with a bracket as JSON, however deep, and does not say where.
            line = max(range(len(lines)), key=lambda number: lines[number].count("["))
            problems.add(line + 1, "brackets are nested too deep")
            return Script(instructions=(), escape="\\")
        except DockerfileSyntaxError as error:
            line = min(error.line or 1, len(lines))
            message = _ON_LINE.sub("", str(error))
            problems.add(line, *_explain(message))
            if line in at_fault or len(at_fault) >= _MAX_MISTAKES:
                return Script(instructions=(), escape="\\")
            at_fault.add(line)
            if message == _UNTERMINATED:
                del lines[line - 1 :]  # all the rest is in that heredoc
                continue
            # An instruction that takes any text, so that continuations (and heredocs) are still its own.
            stand_in = "RUN" if message.startswith(_UNKNOWN) else "MAINTAINER"
            lines[line - 1] = _FIRST_WORD.sub(rf"\1{stand_in}", lines[line - 1], count=1)
            continue
        instructions = tuple(
            Written(
                line=each.start_line,
                name=each.name,
                text=each.original.strip(),
                flags=tuple(each.flags),
                arguments=tuple(each.args),
                is_exec=each.json,
                heredocs=tuple(
                    Heredoc(
                        name=heredoc.name,
                        content=chomp_heredoc_content(heredoc.content) if heredoc.chomp else heredoc.content,
                        expand=heredoc.expand,
                    )
                    for heredoc in each.heredocs
                ),
            )
            for each in tree.instructions
            if each.start_line not in at_fault
        )
        return Script(instructions=instructions, escape=tree.escape_token)


def heredoc_name(word: str) -> str | None:
    """Return which heredoc a word stands for, None where it is an ordinary word."""
    found = parse_heredoc(word)
    return found.name if found is not None else None


def _explain(message: str) -> tuple[str, str]:
    if message.startswith(_UNKNOWN):
        word = message.removeprefix(_UNKNOWN)
        return f"there is no instruction {word[:60]}", did_you_mean(word.upper(), INSTRUCTIONS)
    if message == _UNTERMINATED:
        return "a heredoc is not ended", "its terminator stands alone on a line, without spaces before it"
    return message, ""
