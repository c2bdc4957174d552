"""Columns of text: plain for pipes and files, fitted to its width for a terminal."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

INSTRUCTION_WIDTH = 72
_INDENT, _GAP = "  ", 2


def columns(
    rows: Sequence[Sequence[str]], *, right: frozenset[int], width: int | None = None
) -> Iterator[str]:
    """Yield the lines of a table.

    Args:
        rows: the cells of each row; the first row holds the headings.
        right: the numbers of the columns that are aligned right.
        width: of the terminal, in columns, which no line exceeds: the widest cells are wrapped. None:
            one line per row, however long it is, so that what a program reads depends on nothing else.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if width is not None and len(_INDENT) + sum(widths) + _GAP * (len(widths) - 1) > width:
        yield from _fitted(rows, right, width)
        return
    for row in rows:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield f"{_INDENT}{(' ' * _GAP).join(cells).rstrip()}"


def _fitted(rows: Sequence[Sequence[str]], right: frozenset[int], width: int) -> Iterator[str]:
    # Only for a table that is too wide for a terminal: rich takes 30 ms to import.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table.grid(padding=(0, _GAP, 0, 0))
    for column in range(len(rows[0])):
        table.add_column(justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(file=StringIO(), width=max(width - len(_INDENT), 1), color_system=None)
    with console.capture() as printed:
        console.print(table)
    yield from (f"{_INDENT}{line}".rstrip() for line in printed.get().splitlines())


def one_line(text: str) -> str:
    """Return text on one line with unprintable characters replaced: it may come from a registry or image."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def instruction(text: str) -> str:
    """Return an instruction on one line, shortened to `INSTRUCTION_WIDTH` characters."""
    line = one_line(text)
    return line if len(line) <= INSTRUCTION_WIDTH else f"{line[: INSTRUCTION_WIDTH - 1]}…"
