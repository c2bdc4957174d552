"""How reports write sizes and ratios."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
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
    while figure >= _FULL and unit < len(_UNITS) - 1:
        figure /= _STEP
        unit += 1
    digits = f"{count}" if unit == 0 else f"{figure:.4g}" if figure >= _FULL else f"{figure:.3g}"
    return f"{digits}{_UNITS[unit]}"


def exact(count: int) -> str:
    """Write a number of bytes in full: `166,359,863 bytes`."""
    return f"{count:,} byte{'' if count == 1 else 's'}"


def percent(ratio: float) -> str:
    """Write a ratio of 0 to 1 as a percentage with one decimal."""
    return f"{ratio * 100:.1f} %"


def age(seconds: float) -> str:
    """Write how long ago something was as docker does: `3 days`, `About an hour`, `19 months`."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < _MINUTE:
        return "1 second" if whole == 1 else f"{whole} seconds"
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
