"""The page at ``/``, for people: what the registry holds, what sharing saves, what the journal adds up to.

Owns what is shown and how much of it. Whatever clients chose (names, media types, annotations, what a config
says) is a stranger's text: cut, made legible and escaped. There is no script, and the policy lets none run.

A look at the page is journalled like every other request, since the journal is an account of all of them and
a client that asks for ``/`` by mistake should be found out. It has a route of its own, so that it can be told
apart, and the totals on the page leave that route out.
"""

import hashlib
import json
import pkgutil
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import cache
from string import Template
from typing import Any

from mock_registry.access import Access
from mock_registry.asgi import Headers
from mock_registry.exchange import Exchange, Response
from mock_registry.manifest import Kind, Manifest
from mock_registry.service import Service
from mock_registry.spec import INDEXES, Digest
from mock_registry.state import Repository, State
from mock_registry.survey import Layer, Survey, Total, Traffic, survey, traffic

from .markup import Html, Node, element, escape, join, legible

# How much is shown, so that the page stays below a few megabytes whatever is stored.
REPOSITORIES = 200
MANIFESTS = 400
MANIFESTS_OF_ONE = 50
LAYERS_OF_IMAGES = 2_000
LAYERS_OF_ONE = 200
LAYERS = 500
TAGS = 20
NAMES = 4
ANNOTATIONS = 8
TEXT = 120

CONFIG_OCTETS = 1 << 16
"""Of the largest config that is read."""
CONFIGS_OCTETS = 4 << 20
"""Of all configs that are read for one page."""

_OPEN = 4
"""Repositories up to which they, and the first image of each, are unfolded from the start."""

_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_UNIT = 1000
_NOTHING = element("span", "\N{EN DASH}", class_="none")
_CONFIGS = frozenset(
    {
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.oci.image.config.v1+json",
    }
)
"""Types that every image has: not worth telling."""


async def get_page(service: Service, exchange: Exchange) -> Response:
    """Show what whoever asks may read, as one page that needs nothing else."""
    template, headers = _template()
    page = _Page(service, exchange.access)
    body = template.substitute(content=page.content()).encode()
    return Response(200, [*headers, (b"content-type", b"text/html; charset=utf-8")], body)


@cache
def _template() -> tuple[Template, Headers]:
    """Return the page's frame, and the headers that allow its style and nothing else."""
    octets = pkgutil.get_data(__package__, "page.html") or b""
    text = octets.decode()
    style = "".join(_STYLE.findall(text)).encode()
    allowed = b64encode(hashlib.sha256(style).digest())
    policy = b"; ".join(
        (
            b"default-src 'none'",
            b"style-src 'sha256-%b'" % allowed,
            b"img-src data:",  # the empty icon, or browsers would ask for one, and the journal would show it
            b"base-uri 'none'",
            b"form-action 'none'",
            b"frame-ancestors 'none'",
        )
    )
    headers = [
        (b"content-security-policy", policy),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cache-control", b"no-store"),
    ]
    return Template(text), headers


class _Page:
    """One look at the registry, without a pause: nothing changes meanwhile."""

    def __init__(self, service: Service, access: Access) -> None:
        self._state = service.state
        self._user = access.user
        self._survey = survey(service.state, access.sees)
        self._traffic = traffic(service.journal, access)
        self._manifests_left = MANIFESTS
        self._layers_left = LAYERS_OF_IMAGES
        self._octets_left = CONFIGS_OCTETS

    def content(self) -> Html:
        """Return all that is in the body."""
        reader = "everyone" if self._user is None else legible(self._user, TEXT)
        return join(
            element(
                "header",
                element("h1", "mock_registry"),
                element("p", "What ", element("bdi", reader), " may read of this registry.", class_="quiet"),
            ),
            element(
                "main",
                _figures(self._survey),
                _sharing(self._survey),
                element("h2", "Repositories"),
                self._repositories(self._survey.repositories),
                element("h2", "Layers"),
                _layers(self._survey),
                element("h2", "Journal"),
                _journal(self._traffic),
            ),
            element(
                "footer",
                "Sizes are of blobs as they are stored; 1 kB is 1000 bytes. ",
                "The journal's totals leave out requests for this page.",
            ),
        )

    def _repositories(self, repositories: Sequence[Repository]) -> Html:
        if not repositories:
            return element("p", "No repositories.", class_="card none")
        unfolded = "" if len(repositories) <= _OPEN else None
        shown = [self._repository(each, unfolded) for each in repositories[:REPOSITORIES]]
        return join(*shown, _more(len(repositories) - len(shown), "repository", "repositories"))

    def _repository(self, repository: Repository, unfolded: str | None) -> Html:
        tags: dict[Digest, list[str]] = {}
        for tag, digest in sorted(repository.tags.items()):
            tags.setdefault(digest, []).append(tag)
        ordered = [*tags, *(digest for digest in repository.manifests if digest not in tags)]
        count = min(MANIFESTS_OF_ONE, self._manifests_left)
        shown = [
            self._manifest(
                repository, repository.manifests[digest], tags.get(digest, []), None if place else unfolded
            )
            for place, digest in enumerate(ordered[:count])
            if digest in repository.manifests
        ]
        self._manifests_left -= len(shown)
        held = sum(
            self._survey.layers[digest].size for digest in repository.blobs if digest in self._survey.layers
        )
        told = f"{_count(len(repository.tags), 'tag', 'tags')} · {_size(held)}"
        return element(
            "details",
            element("summary", element("bdi", repository.name), element("span", told, class_="quiet")),
            *shown,
            None if ordered else element("p", "No manifest.", class_="none"),
            _more(len(ordered) - len(shown), "manifest", "manifests"),
            class_="repository card",
            open=unfolded,
        )

    def _manifest(
        self, repository: Repository, manifest: Manifest, tags: Sequence[str], unfolded: str | None
    ) -> Html:
        config = self._config(repository, manifest)
        summary = element(
            "summary",
            *(element("bdi", tag, class_="tag") for tag in tags[:TAGS]),
            _more(len(tags) - TAGS, "tag", "tags", name="span"),
            None if tags else element("span", "untagged", class_="none"),
            _digest(manifest.digest),
            element("span", self._what(manifest, config), class_="quiet"),
        )
        return element(
            "details",
            summary,
            _told(manifest),
            _children(manifest)
            if manifest.media_type in INDEXES
            else self._image(repository, manifest, config),
            class_="image",
            open=unfolded,
        )

    def _what(self, manifest: Manifest, config: dict[str, Any]) -> str:
        if manifest.media_type in INDEXES:
            return f"index of {_count(len(manifest.successors), 'manifest', 'manifests')}"
        digests = dict(manifest.layers)
        size = sum(self._survey.layers[digest].size for digest in digests if digest in self._survey.layers)
        platform = "/".join(str(config[key]) for key in ("os", "architecture") if _is_text(config.get(key)))
        layers = _count(len(manifest.layers), "layer", "layers")
        return " · ".join(filter(None, (legible(platform, TEXT), layers, _size(size))))

    def _config(self, repository: Repository, manifest: Manifest) -> dict[str, Any]:
        """Return what an image's config says, if it can be read and is of the usual size."""
        layers = dict(manifest.layers)
        blobs = (each.digest for each in manifest.successors if each.kind is Kind.BLOB)
        digest = next((digest for digest in blobs if digest not in layers), "")
        octets = _read(self._state, repository.name, digest, min(CONFIG_OCTETS, self._octets_left))
        self._octets_left -= len(octets)
        try:
            config = json.loads(octets or b"{}")
        except (ValueError, RecursionError):
            return {}
        return config if isinstance(config, dict) else {}

    def _image(self, repository: Repository, manifest: Manifest, config: dict[str, Any]) -> Html:
        layers = manifest.layers[: min(LAYERS_OF_ONE, self._layers_left)]
        self._layers_left -= len(layers)
        made = _created_by(config, len(manifest.layers))
        rows = [
            self._layer_row(repository, digest, media_type, made[place] if made else None)
            for place, (digest, media_type) in enumerate(layers)
        ]
        return join(
            _table(("Size", "Layer", "Created by", "Also in"), rows, numbers=range(1)) if rows else None,
            _more(len(manifest.layers) - len(layers), "layer", "layers"),
        )

    def _layer_row(
        self, repository: Repository, digest: Digest, media_type: str, made: str | None
    ) -> Sequence[Node]:
        layer = self._survey.layers.get(digest) if digest in repository.blobs else None
        told = legible(media_type if made is None else made, TEXT)
        text = element(
            "span", told, class_="quiet" if made is None else "mono", title=legible(media_type, TEXT)
        )
        if layer is None:
            return element("span", "not here", class_="none"), _digest(digest), text, None
        return (
            _size(layer.size),
            element("a", _digest(digest), href=f"#{_anchor(digest)}"),
            text,
            _names(name for name in layer.repositories if name != repository.name),
        )


def _read(state: State, name: str, digest: Digest, limit: int) -> bytes:
    """Return a blob of a repository, or nothing if it is not there, is damaged, or is larger than that."""
    blob = state.blob(name, digest) if digest else None
    if blob is None or blob.size > limit:
        return b""
    try:
        with blob.open() as reader:
            return reader.read(0, blob.size)
    except OSError:
        return b""


def _created_by(config: dict[str, Any], count: int) -> list[str | None] | None:
    """Return what made each layer, if the history agrees with the number of layers."""
    history = config.get("history")
    if not isinstance(history, list):
        return None
    steps = [step for step in history if isinstance(step, dict) and not step.get("empty_layer")]
    if len(steps) != count:
        return None
    return [step["created_by"] if _is_text(step.get("created_by")) else None for step in steps]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _figures(found: Survey) -> Html:
    tags = sum(len(repository.tags) for repository in found.repositories)
    manifests = sum(len(repository.manifests) for repository in found.repositories)
    figures = [
        ("Repositories", f"{len(found.repositories):,}", None),
        ("Tags", f"{tags:,}", None),
        ("Manifests", f"{manifests:,}", None),
        ("Layers", f"{len(found.layers):,}", None),
        ("Stored", _size(found.stored), None),
        ("Sharing saves", _size(found.saved), "main"),
    ]
    return element(
        "dl",
        *(
            element("div", element("dt", name), element("dd", value), class_=kind)
            for name, value, kind in figures
        ),
        class_="figures",
    )


def _sharing(found: Survey) -> Html | None:
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
        f"Without sharing, the images would take {_size(whole)}. Each layer is stored once: "
        f"{_size(found.stored)} stored, {_size(found.saved)} ({share:.1f} %) saved."
    )
    return element("div", element("p", told), bar, class_="card")


def _layers(found: Survey) -> Html:
    if not found.layers:
        return element("p", "No layers.", class_="card none")
    shown = list(found.layers.values())[:LAYERS]
    heads = ("Saves", "Size", "Images", "Layer", "Media type", "Repositories")
    table = _table(
        heads, map(_layer, shown), numbers=range(3), anchors=[_anchor(each.digest) for each in shown]
    )
    return element("div", table, _more(len(found.layers) - len(shown), "layer", "layers"), class_="card")


def _layer(layer: Layer) -> Sequence[Node]:
    unnamed = element("span", "no image names it", class_="none")
    return (
        _size(layer.saved) if layer.saved else _NOTHING,
        _size(layer.size),
        f"{layer.images:,}",
        _digest(layer.digest),
        unnamed if layer.media_type is None else legible(layer.media_type, TEXT),
        _names(layer.repositories),
    )


def _journal(told: Traffic) -> Html:
    heads = ("Route", "Requests", "Bytes in", "Bytes out", "4xx, 5xx", "Incomplete", "Faults")
    rows = [_total(total, route) for route, total in told.routes.items()]
    table = _table(heads, rows, numbers=range(1, 7), last=_total(told.whole, "all"))
    older = f"{_count(told.older, 'older record is', 'older records are')} not counted."
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


def _told(manifest: Manifest) -> Html | None:
    """Return what a manifest says of itself beside its layers."""
    pairs = [("subject", manifest.subject)] if manifest.subject else []
    if manifest.artifact_type and manifest.artifact_type not in _CONFIGS:
        pairs.append(("type", manifest.artifact_type))
    annotations = manifest.annotations or {}
    pairs += [(name, value) for name, value in annotations.items() if isinstance(value, str)][:ANNOTATIONS]
    lines = [
        element(
            "div",
            element("dt", element("bdi", legible(name, TEXT)), ": "),
            element("dd", legible(value, TEXT)),
        )
        for name, value in pairs
    ]
    return element("dl", *lines, class_="told") if lines else None


def _children(manifest: Manifest) -> Html:
    shown = manifest.successors[:LAYERS_OF_ONE]
    rows = [(_digest(each.digest), legible(each.media_type, TEXT)) for each in shown]
    more = _more(len(manifest.successors) - len(shown), "manifest", "manifests")
    return join(_table(("Manifest", "Media type"), rows) if rows else None, more)


def _table(
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


def _digest(digest: Digest) -> Html:
    algorithm, _, encoded = digest.partition(":")
    return element("code", f"{algorithm}:{encoded[:12]}", title=digest, class_="digest")


def _anchor(digest: Digest) -> str:
    return digest.replace(":", "-")


def _names(names: Iterable[str]) -> Html | None:
    listed = list(names)
    links = [element("bdi", name) for name in listed[:NAMES]]
    texts = [*links, *([escape(f"{len(listed) - NAMES:,} more")] if len(listed) > NAMES else [])]
    return Html(", ".join(texts)) if texts else _NOTHING


def _more(count: int, one: str, many: str, *, name: str = "p") -> Html | None:
    return element(name, f"and {_count(count, one, many)} more", class_="none") if count > 0 else None


def _count(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _size(octets: int) -> str:
    """Return octets in three figures or so."""
    if octets < _UNIT:
        return f"{octets} B"
    size = octets / _UNIT
    for unit in ("kB", "MB", "GB"):
        if size < _UNIT - 0.5:
            return f"{size:.{1 if size < _UNIT / 10 else 0}f} {unit}"
        size /= _UNIT
    return f"{size:,.1f} TB"
