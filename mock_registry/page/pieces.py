"""Pieces of which the page is made: tables, digests, names, counts, sizes.

Owns how these look. Must not know what a registry holds.
"""

from collections.abc import Iterable, Sequence

from mock_registry.spec import Digest

from .markup import Html, Node, element, escape

TEXT = 120
"""Characters of a stranger's text."""
NAMES = 4
"""Names in a row."""

NOTHING = element("span", "\N{EN DASH}", class_="none")
_UNIT = 1000


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
    """Return octets in three figures or so."""
    if octets < _UNIT:
        return f"{octets} B"
    size = octets / _UNIT
    for unit in ("kB", "MB", "GB"):
        if size < _UNIT - 0.5:
            return f"{size:.{1 if size < _UNIT / 10 else 0}f} {unit}"
        size /= _UNIT
    return f"{size:,.1f} TB"
