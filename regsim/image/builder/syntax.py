"""The syntax of a Dockerfile: instructions as written, flags, variables, and the mistakes found.

Owns the seam to `e2b_dockerfile_utils`, a port of BuildKit's parser and shell lexer, and the wording
`Dockerfile:LINE: …`. Must not know what an instruction means. The parser stops at the first mistake; here the
instruction that is wrong is replaced and the rest is parsed again, so that all mistakes are reported at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from e2b_dockerfile_utils import (
    DockerfileSyntaxError,
    ShellLex,
    chomp_heredoc_content,
    parse_dockerfile_ast,
    parse_heredoc,
)

from regsim.core.suggest import did_you_mean
from regsim.errors import DockerfileError, UsageError

# Beyond this many, one cause has most likely had many effects.
_MAX_REPORTED = 100


@dataclass(slots=True)
class Problems:
    """Collects mistakes.

    Args:
        name: what the Dockerfile is called in messages.
    """

    name: str
    _found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, message: str, hint: str = "") -> None:
        """Note a mistake in a line, counted from 1."""
        text = f"{message} — {hint}" if hint else message
        entry = (line, f"{self.name}:{line}: {' '.join(text.split())}")
        if entry not in self._found and len(self._found) < _MAX_REPORTED:
            self._found.append(entry)

    def check(self) -> None:
        """Go on if nothing was noted.

        Raises:
            DockerfileError: something was; in the order of lines.
        """
        if self._found:
            raise DockerfileError([text for _, text in sorted(self._found, key=lambda found: found[0])])


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
        name: its terminator, and its name when it is copied.
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
    """Return the heredoc that a word stands for, None for an ordinary word."""
    found = parse_heredoc(word)
    return found.name if found is not None else None


def _explain(message: str) -> tuple[str, str]:
    if message.startswith(_UNKNOWN):
        word = message.removeprefix(_UNKNOWN)
        return f"there is no instruction {word[:60]}", did_you_mean(word.upper(), INSTRUCTIONS)
    if message == _UNTERMINATED:
        return "a heredoc is not ended", "its terminator stands alone on a line, without spaces before it"
    return message, ""


@dataclass(frozen=True, slots=True)
class Flags:
    """What was given, by name without the dashes; an on-or-off flag that is on has the value `true`."""

    values: dict[str, list[str]] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """Return a flag's value, None if it was not given."""
        return self.values[name][0] if name in self.values else None

    def all(self, name: str) -> tuple[str, ...]:
        """Return all values of a flag that may be given several times."""
        return tuple(self.values.get(name, ()))

    def on(self, name: str, *, default: bool = False) -> bool:
        """Return whether a flag is on."""
        return default if name not in self.values else self.values[name][0] == "true"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagNames:
    """The flags that an instruction has, in BuildKit's three shapes.

    Args:
        single: have one value.
        several: may be given several times.
        switches: are on or off.
    """

    single: tuple[str, ...] = ()
    several: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()


def read_flags(written: Written, problems: Problems, names: FlagNames) -> Flags:
    """Return the flags of an instruction; each that it does not have, or that is malformed, is noted."""
    single, several, switches, line = names.single, names.several, names.switches, written.line
    known = sorted({*single, *several, *switches})
    flags = Flags()
    for word in written.flags:
        name, equals, value = word.removeprefix("--").partition("=")
        if name not in known:
            hint = (
                did_you_mean(f"--{name}", [f"--{each}" for each in known]) if known else "it takes none here"
            )
            problems.add(line, f"there is no flag --{name[:60]}", hint)
        elif name in flags.values and name not in several:
            problems.add(line, f"--{name} is given twice")
        elif name in switches:
            state = value.lower() or ("" if equals else "true")
            if state in ("true", "false"):
                flags.values[name] = [state]
            else:
                problems.add(line, f"--{name} is true or false, not {value[:60]!r}")
        elif not equals:
            problems.add(line, f"--{name} has no value", f"write --{name}=…")
        else:
            flags.values.setdefault(name, []).append(value)
    return flags


# What a word may grow to: `${a}${a}…` of values that are themselves such words doubles with each line.
MAX_WORD = 1024 * 1024


def expand(word: str, values: Mapping[str, str], escape: str) -> str:
    """Return a word with its quotes removed and its variables replaced, unset ones by nothing.

    Raises:
        UsageError: its syntax is wrong, it asks for a variable that is not set (`${x:?}`), or it gets too
            long.
    """
    with _refusing():
        return ShellLex(escape, env=_Metered(values), skip_unset_env=False).process_word(word)


def expand_words(text: str, values: Mapping[str, str], escape: str) -> list[str]:
    """Return the words of a text after its variables are replaced: a value with spaces makes several.

    Raises:
        UsageError: as for `expand`.
    """
    with _refusing():
        return ShellLex(escape, env=_Metered(values), skip_unset_env=False).process_words(text)


def expand_content(content: str, values: Mapping[str, str], escape: str) -> str:
    """Return a heredoc's content with its variables replaced; quotes stay.

    Raises:
        UsageError: as for `expand`.
    """
    with _refusing():
        return ShellLex(
            escape, skip_process_quotes=True, env=_Metered(values), skip_unset_env=False
        ).process_word(content)


class _Metered(Mapping[str, str]):
    """Values with a limit on the letters handed out; counting them later would be too late."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._room = MAX_WORD

    def __getitem__(self, name: str) -> str:
        value = self._values[name]
        self._room -= len(value)
        if self._room < 0:
            raise UsageError(f"a word has more than {MAX_WORD} letters once its variables are replaced")
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UsageError(
            str(error)[:300], hint="quotes and ${…} must be closed; ${x:-y}, ${x:+y}, ${x:?y} are known"
        ) from error
