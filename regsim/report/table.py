"""Plain columns: what a pipe or a file gets does not depend on how wide somebody's terminal is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

INSTRUCTION_WIDTH = 72


def columns(rows: Sequence[Sequence[str]], *, right: frozenset[int]) -> Iterator[str]:
    """Yield one line a row, the first being the headings; columns in `right` are set flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield f"  {'  '.join(cells).rstrip()}"


def one_line(text: str) -> str:
    """Return text on one line without what could steer a terminal: it comes from somebody else."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def instruction(text: str) -> str:
    """Return an instruction on one line that is not too long."""
    line = one_line(text)
    return line if len(line) <= INSTRUCTION_WIDTH else f"{line[: INSTRUCTION_WIDTH - 1]}…"
