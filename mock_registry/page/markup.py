"""HTML in which text can only be text.

Owns escaping: whatever is not `Html` already is escaped where it is put into an element. Must not know what
is shown.
"""

from typing import TypeAlias

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})


class Html(str):
    """Markup: text that has been escaped, and elements made of it."""

    __slots__ = ()


Node: TypeAlias = str | int | None


def escape(text: Node) -> Html:
    """Return anything as markup; what is markup already stays as it is, and ``None`` is nothing."""
    if isinstance(text, Html):
        return text
    return Html() if text is None else Html(str(text).translate(_ESCAPES))


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
    """Return a stranger's text in one line that shows what is in it.

    Controls, marks that turn the direction of writing, and halves of characters are spelt out, and what is
    longer is cut.
    """
    cut = text[: length + 1]
    shown = "".join(
        each if each.isprintable() else " " if each in "\t\n\r" else each.encode("unicode_escape").decode()
        for each in cut[:length]
    )
    return shown + "…" if len(cut) > length else shown
