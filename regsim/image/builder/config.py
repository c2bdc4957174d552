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

from regsim.core.manifest import encode
from regsim.errors import ContentError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from regsim.core import Digest, Platform
    from regsim.image.builder.syntax import Written

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
        has_cmd: whether the stage that is built has had a CMD.
    """

    document: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    diff_ids: list[str] = field(default_factory=list)
    author: str | None = None
    has_cmd: bool = False

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

    def shell_words(self, words: Sequence[str], *, is_exec: bool) -> list[str]:
        """Return a command's words; one that is not in exec form goes to the shell."""
        return list(words) if is_exec else [*(self.config.get("Shell") or DEFAULT_SHELL), *words]

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
    config: Config, written: Written, expand: Callable[[str], str], expand_words: Callable[[str], list[str]]
) -> str:
    """Apply an instruction to a config, and return its line in the history.

    Args:
        config: what it changes.
        written: ENV, LABEL, CMD, ENTRYPOINT, EXPOSE, VOLUME, SHELL, USER, STOPSIGNAL or MAINTAINER.
        expand: replaces variables in a word.
        expand_words: replaces variables in a text that may become several words.

    Raises:
        UsageError: a value is not what the instruction takes.
    """
    settings, words = config.config, written.arguments
    match written.name:
        case "ENV" | "LABEL":
            shown = _pairs(config, written, expand)
        case "CMD" | "ENTRYPOINT":
            shown = _command(config, written)
        case "EXPOSE":
            ports = [port for value in words for word in expand_words(value) for port in _ports(word)]
            settings.setdefault("ExposedPorts", {}).update({port: {} for port in ports})
            # A set of names as Go prints one.
            shown = f"map[{' '.join(f'{port}:{{}}' for port in sorted(set(ports)))}]"
        case "VOLUME":
            volumes = [expand(value) for value in words]
            if "" in volumes:
                raise UsageError("a VOLUME's path is empty once its variables are replaced")
            settings.setdefault("Volumes", {}).update({volume: {} for volume in volumes})
            shown = f"[{' '.join(volumes)}]"
        case "SHELL":
            settings["Shell"] = list(words)
            shown = f"[{' '.join(words)}]"
        case "USER":
            shown = settings["User"] = expand(words[0])
        case "STOPSIGNAL":
            shown = settings["StopSignal"] = _signal(expand(words[0]))
        case _:
            shown = config.author = words[0]
    return f"{written.name} {shown}"


def _pairs(config: Config, written: Written, expand: Callable[[str], str]) -> str:
    names, values = map(expand, written.arguments[0::3]), map(expand, written.arguments[1::3])
    pairs = list(zip(names, values, strict=True))
    for name, value in pairs:
        if written.name == "ENV":
            config.set_env(name, value)
        else:
            config.config.setdefault("Labels", {})[name] = value
    return " ".join(f"{name}={value}" for name, value in pairs)


def _command(config: Config, written: Written) -> str:
    words = config.shell_words(written.arguments, is_exec=written.is_exec) if written.arguments else []
    if written.name == "CMD":
        config.config["Cmd"] = words
        config.has_cmd = True
    else:
        config.config["Entrypoint"] = words
        if not config.has_cmd:
            config.config.pop("Cmd", None)  # the base's CMD was meant for the base's ENTRYPOINT
    return f"[{' '.join(json.dumps(word, ensure_ascii=False) for word in words)}]"


def _signal(text: str) -> str:
    if text.isascii() and text.isdigit():
        known = 0 < int(text[:4]) <= _MAX_SIGNAL
    else:
        name = "SIG" + text.upper().removeprefix("SIG")
        known = name in signal.Signals.__members__ or _REAL_TIME.fullmatch(name) is not None
    if not known:
        raise UsageError(f"no such signal: {text!r:.60}", hint="such as SIGTERM, or 15")
    return text


def _ports(word: str) -> list[str]:
    """Return `80/tcp` for `80`, and each port of a range; a host's part (`8080:80`) counts for nothing."""
    match = _PORT.fullmatch(word.rpartition(":")[2])
    if match is not None:
        first, last = int(match["first"]), int(match["last"] or match["first"])
        protocol = (match["protocol"] or "tcp").lower()
        if first <= last <= _MAX_PORT and protocol in _PROTOCOLS:
            return [f"{port}/{protocol}" for port in range(first, last + 1)]
    raise UsageError(f"not a port: {word!r:.60}", hint="such as 8080, 8080/udp or 8000-8010")
