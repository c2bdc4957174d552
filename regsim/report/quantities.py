"""How reports write sizes and ratios."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_STEP = 1000
_FULL = 999.5  # from here on three digits would read 1e+03


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
