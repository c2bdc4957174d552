"""Sizes, ratios, counts and ages, as they are written and read.

Owns units and exactness: a size that is read is a whole number of bytes or it is refused. Must not know what
is measured.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regsim.errors import UsageError

if TYPE_CHECKING:
    from fractions import Fraction

UNITS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
# The largest size that fits the signed 64-bit integers of registries and file systems.
MAX_SIZE = 2**63 - 1

AMOUNT_PATTERN = r"[0-9]{1,20}(?:\.[0-9]{1,20})?"
SIZE_PATTERN = rf"^{AMOUNT_PATTERN} ?(?:{'|'.join(UNITS)})?$"

_AMOUNT = re.compile(rf"({AMOUNT_PATTERN}) ?([^0-9.\s].*)?")
_MISTYPED = {
    **{unit.lower(): unit for unit in UNITS},
    **{unit[:-1].lower(): unit for unit in UNITS if unit != "B"},
    "bytes": "B",
    "byte": "B",
}

_DECIMAL_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_STEP = 1000
_FULL = 999.5  # from here on three digits would read 1e+03
_MINUTE, _HOUR = 60, 3600
# From how many hours on docker counts in days, weeks, months and years; and how many hours each of those has.
_LONG = ((48, 24, "days"), (24 * 7 * 2, 24 * 7, "weeks"), (24 * 30 * 2, 24 * 30, "months"))
_YEARS, _YEAR = 24 * 365 * 2, 24 * 365


def size(count: int) -> str:
    """Write a number of bytes in three or four digits, as docker does: `322B`, `47.8MB`, `1.23GB`."""
    figure = float(count)
    unit = 0
    while figure >= _FULL and unit < len(_DECIMAL_UNITS) - 1:
        figure /= _STEP
        unit += 1
    digits = f"{count}" if unit == 0 else f"{figure:.4g}" if figure >= _FULL else f"{figure:.3g}"
    return f"{digits}{_DECIMAL_UNITS[unit]}"


def number(count: int, noun: str) -> str:
    """Write a count of things in full, in the singular or plural: `1 layer`, `1,200 layers`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def exact(count: int) -> str:
    """Write a number of bytes in full: `166,359,863 bytes`."""
    return number(count, "byte")


def percent(ratio: float) -> str:
    """Write a ratio of 0 to 1 as a percentage with one decimal."""
    return f"{ratio * 100:.1f} %"


def age(seconds: float) -> str:
    """Write how long ago something was as docker does: `3 days`, `About an hour`, `19 months`."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < _MINUTE:
        return number(whole, "second")
    minutes = whole // _MINUTE
    if minutes < _HOUR // _MINUTE:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / _HOUR + 0.5)
    if hours >= _YEARS:
        return f"{int(seconds / _HOUR) // _YEAR} years"
    for since, length, name in reversed(_LONG):
        if hours >= since:
            return f"{hours // length} {name}"
    return "About an hour" if hours == 1 else f"{hours} hours"


def format_size(size: int) -> str:
    """Write a size so that `parse_size` reads the very same number: the shortest exact form."""
    forms = [f"{size}B"]
    for unit, factor in UNITS.items():
        thousandths, rest = divmod(1000 * size, factor)
        if not rest and size >= factor:
            whole, part = divmod(thousandths, 1000)
            forms.append(f"{whole}.{part:03d}".rstrip("0").rstrip(".") + unit)
    return min(forms, key=lambda form: (len(form), form))


def split_amount(text: str) -> tuple[Fraction, str]:
    """Read a number that is not negative and the unit after it, which may be empty.

    Raises:
        UsageError: there is no such number.
    """
    from fractions import Fraction  # noqa: PLC0415  (it imports decimal, and transfers only write sizes)

    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f'not an amount: "{text[:60]}"', hint="write a number such as 28 or 1.5, then a unit"
        )
    return Fraction(match[1]), (match[2] or "").strip()


def parse_size(text: str) -> int:
    """Read a size and return its bytes. `MB` is 10^6, `MiB` is 2^20, no unit means bytes.

    Raises:
        UsageError: it does not parse, has a fraction of a byte, or is larger than 2^63 - 1 bytes.
    """
    amount, unit = split_amount(text)
    if unit and unit not in UNITS:
        meant = _MISTYPED.get(unit.lower())
        hint = f'did you mean "{meant}"?' if meant else "known: " + ", ".join(UNITS)
        raise UsageError(f'unknown unit of size: "{unit[:20]}"', hint=hint)
    size = amount * UNITS[unit or "B"]
    if size.denominator != 1:
        raise UsageError(
            f'"{text[:60]}" is not a whole number of bytes', hint=f"it is {float(size):,.3f} bytes"
        )
    if size > MAX_SIZE:
        raise UsageError(f'"{text[:60]}" is more than {MAX_SIZE:,} bytes')
    return int(size)
