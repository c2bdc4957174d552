"""What the instructions that make no layer do to a config.

Owns ENV, LABEL, EXPOSE, USER, CMD, ENTRYPOINT, VOLUME, SHELL, STOPSIGNAL, HEALTHCHECK, ONBUILD and
MAINTAINER. Must not know files, layers or caches.
"""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

from regsim.errors import UsageError
from regsim.image.builder.instructions import Healthcheck, Onbuild, Pairs, Start, Text, Words
from regsim.image.config import go_map, health, quoted, words_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.image.builder.instructions import Instruction
    from regsim.image.config import Config

_PORT = re.compile(r"(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?(?:/(?P<protocol>[a-zA-Z]+))?")
_PROTOCOLS = ("tcp", "udp", "sctp")
_MAX_PORT = 65535
_REAL_TIME = re.compile(r"SIGRTM(?:IN(?:\+[0-9]{1,2})?|AX(?:-[0-9]{1,2})?)")
_MAX_SIGNAL = 64


def change(
    config: Config,
    instruction: Instruction,
    expand: Callable[[str], str],
    expand_words: Callable[[str], list[str]],
    *,
    has_cmd: bool,
) -> str | None:
    """Let an instruction change a config, and return its line in the history; None if it has none.

    Args:
        config: what it changes.
        instruction: any that makes no layer, but ARG.
        expand: replaces variables in a word.
        expand_words: replaces variables in a text that may become several words.
        has_cmd: whether the same stage has had a CMD.

    Raises:
        UsageError: a value is not what the instruction takes.
    """
    match instruction:
        case Pairs():
            return _pairs(config, instruction, expand)
        case Start():
            return _start(config, instruction, has_cmd=has_cmd)
        case Words():
            return _words(config, instruction, expand, expand_words)
        case Text():
            return _text(config, instruction, expand)
        case Healthcheck():
            document = config.config["Healthcheck"] = health(instruction)
            return f"HEALTHCHECK {_shown_health(document)}"
        case Onbuild():
            config.config.setdefault("OnBuild", []).append(instruction.trigger)
            return None
        case _:
            raise TypeError(f"{type(instruction).__name__} makes a layer")


def _pairs(config: Config, pairs: Pairs, expand: Callable[[str], str]) -> str:
    values = [(expand(name), expand(value)) for name, value in pairs.pairs]
    for name, value in values:
        if pairs.is_label:
            config.config.setdefault("Labels", {})[name] = value
        else:
            config.set_env(name, value)
    word = "LABEL" if pairs.is_label else "ENV"
    return " ".join((word, *(f"{name}={value}" for name, value in values)))


def _start(config: Config, start: Start, *, has_cmd: bool) -> str:
    words = config.shell_words(start.command) if start.command.words else []
    if start.is_entrypoint:
        config.config["Entrypoint"] = words
        if not has_cmd:
            config.config.pop("Cmd", None)  # the base's CMD was meant for the base's ENTRYPOINT
        return f"ENTRYPOINT {quoted(words)}"
    config.config["Cmd"] = words
    return f"CMD {quoted(words)}"


def _words(
    config: Config, words: Words, expand: Callable[[str], str], expand_words: Callable[[str], list[str]]
) -> str:
    match words.name:
        case "EXPOSE":
            ports = [port for value in words.values for word in expand_words(value) for port in _ports(word)]
            config.config.setdefault("ExposedPorts", {}).update({port: {} for port in ports})
            return f"EXPOSE {go_map(dict.fromkeys(ports))}"
        case "VOLUME":
            volumes = [expand(value) for value in words.values]
            if "" in volumes:
                raise UsageError("a VOLUME's path is empty once its variables are replaced")
            config.config.setdefault("Volumes", {}).update({volume: {} for volume in volumes})
            return words_line("VOLUME", volumes)
        case _:
            config.config["Shell"] = list(words.values)
            return words_line("SHELL", words.values)


def _text(config: Config, text: Text, expand: Callable[[str], str]) -> str:
    match text.name:
        case "USER":
            value = config.config["User"] = expand(text.value)
        case "STOPSIGNAL":
            value = config.config["StopSignal"] = expand(text.value)
            if not _is_signal(value.upper()):
                raise UsageError(f"no such signal: {value!r:.60}", hint="such as SIGTERM, or 15")
        case _:
            value = config.author = text.value
    return f"{text.name} {value}"


def _is_signal(text: str) -> bool:
    if text.isascii() and text.isdigit():
        return 0 < int(text[:4]) <= _MAX_SIGNAL
    name = text if text.startswith("SIG") else f"SIG{text}"
    return name in signal.Signals.__members__ or _REAL_TIME.fullmatch(name) is not None


def _ports(word: str) -> list[str]:
    """Return `80/tcp` for `80`, and each port of a range; a host's part (`8080:80`) counts for nothing."""
    match = _PORT.fullmatch(word.rpartition(":")[2])
    if match is not None:
        first, last = int(match["first"]), int(match["last"] or match["first"])
        protocol = (match["protocol"] or "tcp").lower()
        if first <= last <= _MAX_PORT and protocol in _PROTOCOLS:
            return [f"{port}/{protocol}" for port in range(first, last + 1)]
    raise UsageError(f"not a port: {word!r:.60}", hint="such as 8080, 8080/udp or 8000-8010")


def _shown_health(document: dict[str, object]) -> str:
    return "{" + " ".join(f"{key}:{_shown(value)}" for key, value in document.items()) + "}"


def _shown(value: object) -> str:
    return f"[{' '.join(map(str, value))}]" if isinstance(value, list) else str(value)
