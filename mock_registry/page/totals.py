"""What the page says of the registry as a whole: figures, sharing, layers and the journal's totals.

Owns these sections. Must not know of single images.
"""

from collections.abc import Sequence

from .markup import Html, Node, element, legible
from .pieces import NOTHING, TEXT, anchor, and_more, as_table, counted, in_units, short_digest, some_names
from .survey import Layer, Survey, Total, Traffic

LAYERS = 500
"""Layers that are listed."""


def figures_of(found: Survey) -> Html:
    """Return the six figures at the top."""
    tags = sum(len(repository.tags) for repository in found.repositories)
    manifests = sum(len(repository.manifests) for repository in found.repositories)
    figures = [
        ("Repositories", f"{len(found.repositories):,}", None),
        ("Tags", f"{tags:,}", None),
        ("Manifests", f"{manifests:,}", None),
        ("Layers", f"{len(found.layers):,}", None),
        ("Stored", in_units(found.stored), None),
        ("Sharing saves", in_units(found.saved), "main"),
    ]
    return element(
        "dl",
        *(
            element("div", element("dt", name), element("dd", value), class_=kind)
            for name, value, kind in figures
        ),
        class_="figures",
    )


def sharing_of(found: Survey) -> Html | None:
    """Return what sharing saves, if anything is stored."""
    whole = found.stored + found.saved
    if not whole:
        return None
    share = 100 * found.saved / whole
    bar = element(
        "svg",
        element("rect", class_="all", width=100, height=12),
        element("rect", class_="part", width=f"{share:.2f}", height=12),
        class_="bar",
        viewBox="0 0 100 12",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{share:.1f} % saved",
    )
    told = (
        f"Without sharing, the images would take {in_units(whole)}. Each layer is stored once: "
        f"{in_units(found.stored)} stored, {in_units(found.saved)} ({share:.1f} %) saved."
    )
    return element("div", element("p", told), bar, class_="card")


def layers_of(found: Survey) -> Html:
    """Return the table of layers, those that save most first."""
    if not found.layers:
        return element("p", "No layers.", class_="card none")
    shown = list(found.layers.values())[:LAYERS]
    heads = ("Saves", "Size", "Images", "Layer", "Media type", "Repositories")
    table = as_table(
        heads, map(_layer, shown), numbers=range(3), anchors=[anchor(each.digest) for each in shown]
    )
    return element("div", table, and_more(len(found.layers) - len(shown), "layer", "layers"), class_="card")


def _layer(layer: Layer) -> Sequence[Node]:
    unnamed = element("span", "no image names it", class_="none")
    return (
        in_units(layer.saved) if layer.saved else NOTHING,
        in_units(layer.size),
        f"{layer.images:,}",
        short_digest(layer.digest),
        unnamed if layer.media_type is None else legible(layer.media_type, TEXT),
        some_names(layer.repositories),
    )


def journal_of(told: Traffic) -> Html:
    """Return the journal's totals, route by route."""
    heads = ("Route", "Requests", "Bytes in", "Bytes out", "4xx, 5xx", "Incomplete", "Faults")
    rows = [_total(total, route) for route, total in told.routes.items()]
    table = as_table(heads, rows, numbers=range(1, 7), last=_total(told.whole, "all"))
    older = f"{counted(told.older, 'older record is', 'older records are')} not counted."
    return element("div", table, element("p", older, class_="quiet") if told.older else None, class_="card")


def _total(total: Total, name: str) -> Sequence[Node]:
    odd = (total.refused, total.incomplete, total.faults)
    return (
        name,
        f"{total.requests:,}",
        f"{total.bytes_in:,}",
        f"{total.bytes_out:,}",
        *(element("span", f"{each:,}", class_="alarm" if each else "none") for each in odd),
    )
