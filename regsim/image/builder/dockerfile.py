"""From a Dockerfile's text to stages of checked instructions (docs.docker.com, "Dockerfile reference").

Owns which arguments and flags each instruction takes. Must not know contexts, images or variables' values. An
instruction that only changes the config stays as it is written; variables are not replaced yet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias

from regsim.image.builder.syntax import (
    FlagNames,
    Flags,
    Heredoc,
    Problems,
    Written,
    heredoc_name,
    parse_script,
    read_flags,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """COPY, or with `is_add` ADD.

    Args:
        line: its line in the Dockerfile.
        is_add: whether it is ADD.
        unpack: whether local tar archives are unpacked: of ADD they are, unless `--unpack=false`.
        sources: paths or patterns in the source.
        heredocs: files that stand in the Dockerfile.
        destination: a path in the image; one that ends with `/` is a directory.
        source: `--from`: a stage or an image; None for the context.
        chown: `--chown`: user or user:group.
        chmod: `--chmod`: octal digits.
        exclude: `--exclude`: patterns of what is left out.
        parents: `--parents`: keep the sources' directories.
        link: `--link`: the layer does not depend on what is below it.
    """

    line: int
    is_add: bool
    unpack: bool
    sources: tuple[str, ...]
    heredocs: tuple[Heredoc, ...]
    destination: str
    source: str | None = None
    chown: str | None = None
    chmod: str | None = None
    exclude: tuple[str, ...] = ()
    parents: bool = False
    link: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """RUN: a command, which is not executed here.

    Args:
        line: its line in the Dockerfile.
        words: a program and its arguments, or with `is_exec` unset one line for the shell.
        is_exec: whether it is in exec form.
        key: by what name its effects are declared: the command on one line, each run of spaces as one.
    """

    line: int
    words: tuple[str, ...]
    is_exec: bool
    key: str


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """HEALTHCHECK.

    Args:
        line: its line in the Dockerfile.
        document: as a config has it: `Test`, times in nanoseconds, `Retries`.
    """

    line: int
    document: dict[str, object]


Instruction: TypeAlias = Copy | Run | Healthcheck | Written


@dataclass(slots=True, kw_only=True)
class Stage:
    """A FROM and what follows it, up to the next one.

    Args:
        line: its line in the Dockerfile.
        base: the image or stage that it begins with.
        name: what follows AS.
        platform: `--platform`.
        instructions: in order.
    """

    line: int
    base: str
    name: str | None
    platform: str | None
    instructions: list[Instruction] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """A whole Dockerfile.

    Args:
        arguments: the ARGs before the first FROM.
        stages: in order.
        escape: the character that escapes.
    """

    arguments: list[Written]
    stages: list[Stage]
    escape: str


_TIMES = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,12})?)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_LEAST = 10**6
_MOST = 2**63 - 1


def _healthcheck(written: Written, flags: Flags, problems: Problems) -> Healthcheck | None:
    kind = written.arguments[0].upper() if written.arguments else ""
    words = written.arguments[1:]
    if kind == "NONE" and not words and not written.flags:
        return Healthcheck(written.line, {"Test": ["NONE"]})
    if kind != "CMD" or not words:
        hint = "write HEALTHCHECK NONE, or HEALTHCHECK [--interval=30s …] CMD and a command"
        problems.add(written.line, f"not a health check: {written.text[:80]!r}", hint)
        return None
    document: dict[str, object] = {"Test": ["CMD" if written.is_exec else "CMD-SHELL", *words]}
    for flag, key in _TIMES.items():
        text = flags.get(flag)
        if text is None:
            continue
        duration = _duration(text)
        if duration is None or 0 < duration < _LEAST:
            problems.add(
                written.line, f"not a duration: --{flag}={text[:40]}", "such as 30s or 1m30s, at least 1ms"
            )
        elif duration:
            document[key] = duration
    retries = flags.get("retries")
    if retries is not None and (not retries.isascii() or not retries.isdigit() or len(retries) > 9):  # noqa: PLR2004
        problems.add(written.line, f"not a number: --retries={retries[:40]}")
        return None
    if int(retries or 0):
        document["Retries"] = int(retries or 0)
    return Healthcheck(written.line, document)


def _duration(text: str) -> int | None:
    """Return nanoseconds; None if `text` is not a duration."""
    if text == "0":
        return 0
    total, at = Fraction(0), 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            return None
        total += Fraction(part[1]) * _NANOSECONDS[part[2]]
        at = part.end()
    return int(total) if text and total <= _MOST else None


_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_ONBUILD = re.compile(r"^\s*ONBUILD\s*", re.IGNORECASE)
_URL = re.compile(r"(?:https?|ftp|git|ssh)://|git@", re.IGNORECASE)
_NO_TRIGGER = {"ONBUILD", "FROM", "MAINTAINER"}
_OCTAL = re.compile(r"[0-7]{1,4}")
_FROM_WORDS = 3


def read_dockerfile(text: str, problems: Problems) -> Dockerfile:
    """Read a Dockerfile.

    Args:
        text: what it says.
        problems: collects mistakes.
    """
    script = parse_script(text, problems)
    read = Dockerfile(arguments=[], stages=[], escape=script.escape)
    for written in script.instructions:
        if written.name == "FROM":
            read.stages.append(_from(written, problems))
            continue
        instruction = read_instruction(written, problems)
        if instruction is None:
            continue
        if read.stages:
            read.stages[-1].instructions.append(instruction)
        elif isinstance(instruction, Written) and instruction.name == "ARG":
            read.arguments.append(instruction)
        else:
            problems.add(written.line, f"{written.name} stands before the first FROM", "only ARG may")
    if not read.stages:
        problems.add(1, "there is no FROM", "begin with FROM scratch, or with an image")
    return read


def read_trigger(text: str, name: str) -> Instruction:
    """Read the instruction of an ONBUILD that a base image carries.

    Raises:
        DockerfileError: it has mistakes, or is not a single instruction.
    """
    problems = Problems(name)
    script = parse_script(text, problems)
    found = [read_instruction(each, problems) for each in script.instructions if each.name not in _NO_TRIGGER]
    problems.check()
    if len(found) != 1 or found[0] is None:
        problems.add(1, f"not an instruction for ONBUILD: {text[:80]!r}")
        problems.check()
    assert found[0] is not None  # noqa: S101  (a problem was noted otherwise)
    return found[0]


def read_instruction(written: Written, problems: Problems) -> Instruction | None:
    """Return what an instruction other than FROM says; None if it has mistakes, which are noted."""
    flags = read_flags(written, problems, _FLAGS.get(written.name, FlagNames()))
    return _READERS[written.name](written, flags, problems)


def _from(written: Written, problems: Problems) -> Stage:
    flags = read_flags(written, problems, _FLAGS["FROM"])
    words = written.arguments
    name = None
    if len(words) == _FROM_WORDS and words[1].lower() == "as":
        name = words[2].lower()
        if _STAGE_NAME.fullmatch(name) is None:
            hint = "it begins with a letter, then letters, digits, - _ and ."
            problems.add(written.line, f"not the name of a stage: {words[2][:80]!r}", hint)
    elif len(words) != 1:
        problems.add(written.line, "FROM takes an image, or an image AS a name")
    base = words[0] if words else ""
    return Stage(line=written.line, base=base, name=name, platform=flags.get("platform"))


def _copy(written: Written, flags: Flags, problems: Problems) -> Copy | None:
    is_add = written.name == "ADD"
    if len(written.arguments) < 2:  # noqa: PLR2004  (a source and a destination)
        problems.add(written.line, f"{written.name} takes sources and a destination")
        return None
    *words, destination = written.arguments
    heredocs = {each.name: each for each in written.heredocs}
    names = [heredoc_name(word) if not written.is_exec else None for word in words]
    if not written.is_exec and heredoc_name(destination) is not None:
        problems.add(written.line, "a heredoc is not a destination", "name a path in the image after it")
    sources = [word for word, name in zip(words, names, strict=True) if name is None]
    _check_sources(written, sources, flags, problems)
    return Copy(
        line=written.line,
        is_add=is_add,
        unpack=flags.on("unpack", default=is_add),
        sources=tuple(sources),
        heredocs=tuple(heredocs[name] for name in names if name is not None),
        destination=destination,
        source=flags.get("from"),
        chown=flags.get("chown"),
        chmod=flags.get("chmod"),
        exclude=flags.all("exclude"),
        parents=flags.on("parents"),
        link=flags.on("link"),
    )


def _check_sources(written: Written, sources: list[str], flags: Flags, problems: Problems) -> None:
    for word in sources:
        if _URL.match(word):
            hint = "builds fetch nothing: download it into the context, and COPY it"
            problems.add(written.line, f"{written.name} of a URL: {word[:120]}", hint)
    for name in ("checksum", "keep-git-dir"):
        if name in flags.values and not any(map(_URL.match, sources)):
            problems.add(written.line, f"--{name} goes with a URL only")
    chmod = flags.get("chmod")
    if chmod is not None and "$" not in chmod and _OCTAL.fullmatch(chmod) is None:
        problems.add(written.line, f"not a mode: --chmod={chmod[:40]}", "octal digits, such as 0755")


def _run(written: Written, _flags: Flags, problems: Problems) -> Run | None:
    if not written.arguments:
        problems.add(written.line, "RUN takes a command")
        return None
    if written.is_exec:
        line = " ".join(written.arguments)
    elif written.heredocs and heredoc_name(written.arguments[0]) is not None:
        line = written.heredocs[0].content
    else:
        line = "\n".join((*written.arguments, *(f"{each.content}{each.name}" for each in written.heredocs)))
    words = written.arguments if written.is_exec else (line,)
    return Run(line=written.line, words=words, is_exec=written.is_exec, key=command_key(line))


def command_key(text: str) -> str:
    """Return by what name a command's effects are declared: on one line, each run of spaces as one."""
    return " ".join(text.split())


def _pairs(written: Written, _flags: Flags, problems: Problems) -> Written:
    names = written.arguments[0::3]
    if not names or "" in names:
        problems.add(written.line, f"{written.name} takes name=value, and no name is empty")
    return written


def _arg(written: Written, _flags: Flags, problems: Problems) -> Written:
    if not written.arguments or any(not name for name, _ in defaults(written)):
        problems.add(written.line, "ARG takes a name, or name=default")
    return written


def defaults(arg: Written) -> list[tuple[str, str | None]]:
    """Return the names of an ARG, each with its default if it has one."""
    words = [word.partition("=") for word in arg.arguments]
    return [(name, default if equals else None) for name, equals, default in words]


def _text(written: Written, _flags: Flags, problems: Problems) -> Written:
    if len(written.arguments) != 1:
        problems.add(written.line, f"{written.name} takes one argument")
    return written


def _words(written: Written, _flags: Flags, problems: Problems) -> Written:
    values = tuple(value.strip() for value in written.arguments)
    if written.name == "SHELL" and not written.is_exec:
        problems.add(written.line, "SHELL takes words in JSON form", 'such as SHELL ["/bin/bash", "-c"]')
    elif not values or "" in values:
        problems.add(written.line, f"{written.name} takes at least one argument, and no empty ones")
    return replace(written, arguments=values)


def _onbuild(written: Written, _flags: Flags, problems: Problems) -> Written:
    trigger = _ONBUILD.sub("", written.text)
    word = trigger.split(maxsplit=1)[0].upper() if trigger.split() else ""
    if word in _NO_TRIGGER or word not in _READERS:
        problems.add(written.line, f"not an instruction for ONBUILD: {trigger[:80]!r}")
    return replace(written, arguments=(trigger,))


_FLAGS = {
    "FROM": FlagNames(single=("platform",)),
    "ADD": FlagNames(
        single=("chown", "chmod", "checksum"),
        several=("exclude",),
        switches=("link", "unpack", "keep-git-dir"),
    ),
    "COPY": FlagNames(single=("chown", "chmod", "from"), several=("exclude",), switches=("link", "parents")),
    "RUN": FlagNames(single=("network", "security"), several=("mount", "device")),
    "HEALTHCHECK": FlagNames(single=(*_TIMES, "retries")),
}
_READERS: dict[str, Callable[[Written, Flags, Problems], Instruction | None]] = {
    "ADD": _copy,
    "ARG": _arg,
    "CMD": lambda written, _flags, _problems: written,
    "COPY": _copy,
    "ENTRYPOINT": lambda written, _flags, _problems: written,
    "ENV": _pairs,
    "EXPOSE": _words,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _pairs,
    "MAINTAINER": _text,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _words,
    "STOPSIGNAL": _text,
    "USER": _text,
    "VOLUME": _words,
    "WORKDIR": _text,
}
