"""The flags of an instruction, such as `--from=build`, checked against those that it has.

Owns their three shapes, which are BuildKit's: on or off, one value, several values. Must not know what a
flag means.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regsim.core.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regsim.image.dockerfile.problems import Problems


@dataclass(frozen=True, slots=True)
class Flags:
    """What was given, by name without the dashes; an on-or-off flag that is on has the value `true`."""

    values: dict[str, list[str]] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """Return a flag's value, None where it was not given."""
        return self.values[name][0] if name in self.values else None

    def all(self, name: str) -> tuple[str, ...]:
        """Return all values of a flag that may be given several times."""
        return tuple(self.values.get(name, ()))

    def on(self, name: str, *, default: bool = False) -> bool:
        """Tell whether a flag is on."""
        return default if name not in self.values else self.values[name][0] == "true"


def read_flags(
    written: Sequence[str],
    line: int,
    problems: Problems,
    *,
    single: Sequence[str] = (),
    several: Sequence[str] = (),
    switches: Sequence[str] = (),
) -> Flags:
    """Read the flags of one instruction; each that it does not have, or that is malformed, is noted.

    Args:
        written: the words, with their dashes.
        line: where they stand.
        problems: takes what is wrong.
        single: flags that have one value.
        several: flags that may be given several times.
        switches: flags that are on or off.
    """
    known = sorted({*single, *several, *switches})
    flags = Flags()
    for word in written:
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
