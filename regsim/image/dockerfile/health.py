"""HEALTHCHECK: its forms, its flags, and durations as Go writes them (`1m30s`).

Owns that instruction's reading.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from regsim.image.dockerfile.flags import read_flags
from regsim.image.dockerfile.instructions import Healthcheck

if TYPE_CHECKING:
    from regsim.image.dockerfile.problems import Problems
    from regsim.image.dockerfile.syntax import Written

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


def read_healthcheck(written: Written, problems: Problems) -> Healthcheck | None:
    """Return what a HEALTHCHECK says, None where it has mistakes, which are noted."""
    flags = read_flags(written.flags, written.line, problems, single=(*_TIMES, "retries"))
    kind = written.arguments[0].upper() if written.arguments else ""
    words = written.arguments[1:]
    if kind == "NONE" and not words and not written.flags:
        return Healthcheck(line=written.line, test=("NONE",))
    if kind != "CMD" or not words:
        hint = "write HEALTHCHECK NONE, or HEALTHCHECK [--interval=30s …] CMD and a command"
        problems.add(written.line, f"not a health check: {written.text[:80]!r}", hint)
        return None
    times = {}
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
            times[key] = duration
    retries = flags.get("retries")
    if retries is not None and (not retries.isascii() or not retries.isdigit() or len(retries) > 9):  # noqa: PLR2004
        problems.add(written.line, f"not a number: --retries={retries[:40]}")
        return None
    return Healthcheck(
        line=written.line,
        test=("CMD" if written.is_exec else "CMD-SHELL", *words),
        times=times,
        retries=int(retries or 0),
    )


def _duration(text: str) -> int | None:
    """Return nanoseconds; None where `text` is no duration."""
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
