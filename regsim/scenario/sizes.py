"""Amounts as people write them: `28MB`, `1.5MiB`, `4096`, `90%`.

Owns units and exactness: a size is a whole number of bytes or it is refused. Must not know what is measured.
"""

from __future__ import annotations

import re
from fractions import Fraction

from regsim.errors import UsageError

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


def split_amount(text: str) -> tuple[Fraction, str]:
    """Read a number that is not negative and the unit after it, which may be empty.

    Raises:
        UsageError: there is no such number.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f'not an amount: "{text[:60]}"', hint="write a number such as 28 or 1.5, then a unit"
        )
    return Fraction(match[1]), (match[2] or "").strip()


def parse_size(text: str) -> int:
    """Read a size and return its bytes. `MB` is 10^6, `MiB` is 2^20, no unit means bytes.

    Raises:
        UsageError: it does not parse, has a fraction of a byte, or is absurdly large.
    """
    number, unit = split_amount(text)
    if unit and unit not in UNITS:
        raise UsageError(f'no unit of size: "{unit[:20]}"', hint=_unit_hint(unit))
    size = number * UNITS[unit or "B"]
    if size.denominator != 1:
        raise UsageError(
            f'"{text[:60]}" is no whole number of bytes', hint=f"it comes to {float(size):,.3f} bytes"
        )
    if size > MAX_SIZE:
        raise UsageError(f'"{text[:60]}" is more than {MAX_SIZE:,} bytes')
    return int(size)


def _unit_hint(unit: str) -> str:
    by_lower = {known.lower(): known for known in UNITS} | {
        "k": "kB",
        "m": "MB",
        "g": "GB",
        "t": "TB",
        "ki": "KiB",
    }
    by_lower |= {"mi": "MiB", "gi": "GiB", "ti": "TiB", "bytes": "B", "byte": "B"}
    match = by_lower.get(unit.lower())
    return f'did you mean "{match}"?' if match else "known: " + ", ".join(UNITS)


def format_size(size: int) -> str:
    """Write a size so that `parse_size` reads the very same number: the shortest exact form."""
    forms = [f"{size}B"]
    for unit, factor in UNITS.items():
        thousandths, rest = divmod(1000 * size, factor)
        if not rest and size >= factor:
            whole, part = divmod(thousandths, 1000)
            forms.append(f"{whole}.{part:03d}".rstrip("0").rstrip(".") + unit)
    return min(forms, key=lambda form: (len(form), form))
