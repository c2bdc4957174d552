"""HTML in which text can only be text, and what the page is made of: tables, digests, counts, sizes.

Owns escaping: text that is not `Html` is escaped where it is put into an element. Must not know what a
registry holds.
"""

import html
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from mock_registry.spec import Digest

TEXT = 120
"""Characters of a text that clients chose."""
NAMES = 4
"""Names in a row."""

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
        attributes: By name, with ``class_`` for class and ``_`` for a dash; ``None`` leaves one away, and an
            empty text gives it no value.
    """
    pieces = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    ]
    return Html(f"<{name}{''.join(pieces)}>{join(*children)}</{name}>")


def legible(text: str, length: int) -> str:
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


NOTHING = element("span", "\N{EN DASH}", class_="none")


def as_table(
    heads: Sequence[str],
    rows: Iterable[Sequence[Node]],
    *,
    numbers: range = range(0),
    anchors: Sequence[str] = (),
    last: Sequence[Node] | None = None,
) -> Html:
    """Return a table, some of whose columns hold numbers."""
    kinds = ["number" if place in numbers else "text" for place in range(len(heads))]

    def cells(name: str, row: Sequence[Node]) -> list[Html]:
        return [element(name, each, class_=kind) for each, kind in zip(row, kinds, strict=True)]

    body = [
        element("tr", *cells("td", row), id=anchors[place] if anchors else None)
        for place, row in enumerate(rows)
    ]
    table = element(
        "table",
        element("thead", element("tr", *cells("th", heads))),
        element("tbody", *body),
        None if last is None else element("tfoot", element("tr", *cells("td", last))),
    )
    return element("div", table, class_="wide")


def short_digest(digest: Digest) -> Html:
    """Return a digest with twelve of its digits, and all of it for who points at it."""
    algorithm, _, encoded = digest.partition(":")
    return element("code", f"{algorithm}:{encoded[:12]}", title=digest, class_="digest")


def anchor(digest: Digest) -> str:
    """Return what the row of a layer is called, for links within the page."""
    return digest.replace(":", "-")


def some_names(names: Iterable[str]) -> Html | None:
    """Return the first few names in a row, and how many more there are."""
    listed = list(names)
    links = [element("bdi", name) for name in listed[:NAMES]]
    texts = [*links, *([escape(f"{len(listed) - NAMES:,} more")] if len(listed) > NAMES else [])]
    return Html(", ".join(texts)) if texts else NOTHING


def and_more(count: int, one: str, many: str, *, name: str = "p") -> Html | None:
    """Tell how many are not shown, if any."""
    return element(name, f"and {counted(count, one, many)} more", class_="none") if count > 0 else None


def counted(count: int, one: str, many: str) -> str:
    """Return a number and the word for what is counted."""
    return f"{count:,} {one if count == 1 else many}"


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
