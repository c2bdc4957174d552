"""An image's config while it is built, and what the instructions that make no layer do to it.

Owns the keys of a config (image-spec, config.md, and docker's additions) and the wording of `created_by`,
which is BuildKit's of December 2024. Must not know stages, layers' content or caches.
"""

from __future__ import annotations

import json
import posixpath
import re
import signal
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from regsim.core import Platform
from regsim.core.manifest import encode
from regsim.errors import ContentError, UsageError
from regsim.image.builder.instructions import Healthcheck, Onbuild, Pairs, Start, Text, Words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from regsim.core import Digest
    from regsim.image.builder.instructions import Command, Instruction

COMMENT = "buildkit.dockerfile.v0"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")

# In the order in which docker writes them.
_KEYS = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal",
    "ArgsEscaped", "OnBuild", "Healthcheck", "StopTimeout", "Shell",
)  # fmt: skip
_PLATFORM_KEYS = ("architecture", "variant", "os", "os.version", "os.features")


@dataclass(slots=True)
class Config:
    """A config that instructions change.

    Attributes:
        document: platform and other keys of a base's config; without config, history and rootfs.
        config: how a container starts.
        history: one line an instruction, the base's first.
        diff_ids: of all layers, base first.
        author: its author, if one is named.
    """

    document: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    diff_ids: list[str] = field(default_factory=list)
    author: str | None = None

    @classmethod
    def empty(cls, platform: Platform) -> Config:
        """Return the config of `FROM scratch`."""
        return cls(document=platform.to_json(), config={"Env": [f"PATH={DEFAULT_PATH}"], "WorkingDir": "/"})

    @classmethod
    def of(cls, raw: bytes) -> Config:
        """Read the config of a base.

        Raises:
            ContentError: it is not a config.
        """
        try:
            document = json.loads(raw)
            rootfs, config = document["rootfs"], document.get("config") or {}
            diff_ids = [str(each) for each in rootfs["diff_ids"]]
            history = [dict(line) for line in document.get("history") or []]
            platform = {key: document[key] for key in _PLATFORM_KEYS if document.get(key)}
            author = document.get("author")
            if not isinstance(config, dict):
                raise TypeError("config")  # noqa: TRY301  (reported with the others)
            _check_lists(config)
            encode(document)  # what cannot be written again (lone surrogates) is not text
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ContentError(
                "a base's config is malformed", hint="it is not an image to build on"
            ) from error
        return cls(
            document=platform,
            config={key: value for key, value in config.items() if value is not None},
            history=history,
            diff_ids=diff_ids,
            author=author if isinstance(author, str) else None,
        )

    def copy(self) -> Config:
        """Return one that changes on its own, for a stage that builds on this one."""
        return Config(
            document=dict(self.document),
            config=json.loads(json.dumps(self.config)),
            history=[dict(line) for line in self.history],
            diff_ids=list(self.diff_ids),
            author=self.author,
        )

    @property
    def environment(self) -> dict[str, str]:
        """The variables that ENV set."""
        pairs = (str(each).partition("=") for each in self.config.get("Env") or ())
        return {name: value for name, _, value in pairs}

    @property
    def workdir(self) -> str:
        """Where relative paths begin."""
        return str(self.config.get("WorkingDir") or "/")

    @property
    def user(self) -> str:
        """The user that runs commands; empty for root."""
        return str(self.config.get("User") or "")

    @property
    def platform(self) -> Platform:
        """What it runs on."""
        return Platform.from_json(self.document) or Platform("linux", "amd64")

    def add(
        self, created_by: str, timestamp: int, *, diff_id: Digest | None = None, comment: str = COMMENT
    ) -> None:
        """Add a line to the history, and the layer that it made unless it changed only metadata."""
        line: dict[str, Any] = {"created": when(timestamp), "created_by": created_by}
        if comment:
            line["comment"] = comment
        if diff_id is None:
            line["empty_layer"] = True
        else:
            self.diff_ids.append(diff_id)
        self.history.append(line)

    def set_env(self, name: str, value: str) -> None:
        """Set a variable, in its place or at the end."""
        names = [str(each).partition("=")[0] for each in self.config.setdefault("Env", [])]
        if name in names:
            self.config["Env"][names.index(name)] = f"{name}={value}"
        else:
            self.config["Env"].append(f"{name}={value}")

    def absolute(self, path: str) -> str:
        """Return a path from the root, `.` and `..` resolved; a `/` at its end stays."""
        joined = posixpath.normpath(posixpath.join("/", self.workdir, path))
        joined = "/" + joined.lstrip("/")
        return f"{joined}/" if path.endswith(("/", "/.")) and joined != "/" else joined

    def shell_words(self, command: Command) -> list[str]:
        """Return a command's words; one that is not in exec form goes to the shell."""
        if command.is_exec:
            return list(command.words)
        return [*(self.config.get("Shell") or DEFAULT_SHELL), *command.words]

    def raw(self, timestamp: int) -> bytes:
        """Return the finished config, the same to the byte for the same content."""
        document: dict[str, Any] = {"created": when(timestamp)}
        if self.author:
            document["author"] = self.author
        known = {key: self.config[key] for key in _KEYS if _says_something(self.config.get(key))}
        others = {key: self.config[key] for key in sorted(self.config) if key not in _KEYS}
        return encode(
            {
                **document,
                **self.document,
                "config": {**known, **others},
                "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
                "history": self.history,
            }
        )


def when(timestamp: int) -> str:
    """Return a time in seconds since 1970 as configs write it (RFC 3339)."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def quoted(words: Iterable[str]) -> str:
    """Return words as a history shows them: `["./main" "-v"]`."""
    return f"[{' '.join(json.dumps(word, ensure_ascii=False) for word in words)}]"


def health(check: Healthcheck) -> dict[str, Any]:
    """Return a HEALTHCHECK as a config has it."""
    document: dict[str, Any] = {"Test": list(check.test), **check.times}
    if check.retries:
        document["Retries"] = check.retries
    return document


def go_map(names: Iterable[str]) -> str:
    """Return a set of names as Go prints one, which is what a history shows of EXPOSE."""
    return f"map[{' '.join(f'{name}:{{}}' for name in sorted(names))}]"


def words_line(name: str, values: Sequence[str]) -> str:
    """Return the history's line of an instruction that has a list."""
    return f"{name} [{' '.join(values)}]"


def _says_something(value: object) -> bool:
    return value not in (None, "", [], {}, False)


def _check_lists(config: Mapping[str, Any]) -> None:
    for key in ("Env", "Entrypoint", "Cmd", "OnBuild", "Shell"):
        value = config.get(key)
        if value is not None and not (
            isinstance(value, list) and all(isinstance(each, str) for each in value)
        ):
            raise TypeError(key)
    for key in ("ExposedPorts", "Volumes", "Labels"):
        if not isinstance(config.get(key), dict | None):
            raise TypeError(key)
    for key in ("User", "WorkingDir"):
        if not isinstance(config.get(key) or "", str):
            raise TypeError(key)


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
    """Apply an instruction to a config, and return its line in the history; None if it has none.

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
