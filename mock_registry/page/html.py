"""HTML in which text can only be text, and what the page is made of: tables, digests, sizes.

Owns escaping: text that is not `Html` is escaped where it is put into an element. Must not know what a
registry holds.
"""

import html
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from mock_registry.spec import Digest

TEXT = 120
"""Characters of a text that clients chose."""

_UNIT = 1000


class Html(str):
    """Markup: text that has been escaped, and elements made of it."""

    __slots__ = ()


Node: TypeAlias = str | int | None


def escape(text: Node) -> Html:
    """Return anything as markup; what is markup already stays as it is, and ``None`` is nothing."""
    if isinstance(text, Html):
        return text
    return Html() if text is None else Html(html.escape(str(text)))


def join(*nodes: Node) -> Html:
    """Return several things in a row."""
    return Html("".join(map(escape, nodes)))


def element(name: str, *children: Node, **attributes: Node) -> Html:
    """Return an element.

    Args:
        name: The tag, which is ours.
        children: Text, which is escaped, or markup.
        attributes: By name, with ``class_`` for class; ``None`` leaves one away.
    """
    pieces = [
        f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items() if value is not None
    ]
    return Html(f"<{name}{''.join(pieces)}>{join(*children)}</{name}>")


def legible(text: str, length: int = TEXT) -> str:
    """Return a text that clients chose in one line that shows what is in it.

    Controls, marks that turn the direction of writing, and halves of characters are spelt out, and what is
    longer is cut.
    """
    cut = text[: length + 1]
    shown = "".join(
        each if each.isprintable() else " " if each in "\t\n\r" else each.encode("unicode_escape").decode()
        for each in cut[:length]
    )
    return shown + "…" if len(cut) > length else shown


def table(heads: Sequence[str], rows: Iterable[Sequence[Node]], count: int, *, numbers: int = 0) -> Html:
    """Return a table.

    Args:
        heads: Of the columns.
        rows: What is shown.
        count: How many rows there are in all.
        numbers: How many columns, from the left, hold numbers.
    """
    kinds = ["number"] * numbers + ["text"] * (len(heads) - numbers)

    def line(name: str, row: Sequence[Node]) -> Html:
        return element(
            "tr", *(element(name, each, class_=kind) for each, kind in zip(row, kinds, strict=True))
        )

    body = [line("td", row) for row in rows]
    more = element("p", f"and {count - len(body):,} more", class_="quiet") if count > len(body) else None
    made = element("table", element("thead", line("th", heads)), element("tbody", *body))
    return element("div", made, more, class_="card") if body else element("p", "None.", class_="card quiet")


def short_digest(digest: Digest) -> Html:
    """Return a digest with twelve of its digits; pointing at it shows all of it."""
    algorithm, _, encoded = digest.partition(":")
    return element("code", f"{algorithm}:{encoded[:12]}", title=digest)


def in_units(octets: int) -> str:
    """Return bytes in three figures or so."""
    if octets < _UNIT:
        return f"{octets} B"
    size = octets / _UNIT
    for unit in ("kB", "MB", "GB"):
        if size < _UNIT - 0.5:
            return f"{size:.{1 if size < _UNIT / 10 else 0}f} {unit}"
        size /= _UNIT
    return f"{size:,.1f} TB"
