"""What the page says of each repository: its tags and manifests, and of each image, its layers.

Owns how much of them is shown and read. Must not know of the rest of the page.
"""

import json
from collections.abc import Sequence
from typing import Any

from mock_registry.manifest import Kind, Manifest
from mock_registry.spec import INDEXES, Digest
from mock_registry.state import Repository, State

from . import html
from .survey import Survey

# How much is shown, so that the page stays below a few megabytes whatever is stored.
REPOSITORIES = 200
MANIFESTS = 400
MANIFESTS_OF_ONE = 50
LAYERS_OF_IMAGES = 2_000
LAYERS_OF_ONE = 200
TAGS = 20
ANNOTATIONS = 8

CONFIG_OCTETS = 1 << 16
"""Of the largest config that is read."""
CONFIGS_OCTETS = 4 << 20
"""Of all configs that are read for one page."""

_OPEN = 4
"""Repositories up to which they, and the first image of each, are unfolded from the start."""

_CONFIGS = frozenset(
    {
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.oci.image.config.v1+json",
    }
)
"""Types that every image has: not worth telling."""


class Images:
    """The section of repositories, for one look at the registry.

    Args:
        state: Where configs are read.
        survey: What is shown.
    """

    def __init__(self, state: State, survey: Survey) -> None:
        self._state = state
        self._survey = survey
        self._manifests_left = MANIFESTS
        self._layers_left = LAYERS_OF_IMAGES
        self._octets_left = CONFIGS_OCTETS

    def section(self) -> html.Html:
        """Return all repositories, each with its manifests."""
        repositories = self._survey.repositories
        if not repositories:
            return html.element("p", "No repositories.", class_="card none")
        unfolded = "" if len(repositories) <= _OPEN else None
        shown = [self._repository(each, unfolded) for each in repositories[:REPOSITORIES]]
        return html.join(*shown, html.and_more(len(repositories) - len(shown), "repository", "repositories"))

    def _repository(self, repository: Repository, unfolded: str | None) -> html.Html:
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
        told = f"{html.counted(len(repository.tags), 'tag', 'tags')} · {html.in_units(held)}"
        return html.element(
            "details",
            html.element(
                "summary", html.element("bdi", repository.name), html.element("span", told, class_="quiet")
            ),
            *shown,
            None if ordered else html.element("p", "No manifest.", class_="none"),
            html.and_more(len(ordered) - len(shown), "manifest", "manifests"),
            class_="repository card",
            open=unfolded,
        )

    def _manifest(
        self, repository: Repository, manifest: Manifest, tags: Sequence[str], unfolded: str | None
    ) -> html.Html:
        config = self._config(repository, manifest)
        summary = html.element(
            "summary",
            *(html.element("bdi", tag, class_="tag") for tag in tags[:TAGS]),
            html.and_more(len(tags) - TAGS, "tag", "tags", name="span"),
            None if tags else html.element("span", "untagged", class_="none"),
            html.short_digest(manifest.digest),
            html.element("span", self._what(manifest, config), class_="quiet"),
        )
        return html.element(
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
            return f"index of {html.counted(len(manifest.successors), 'manifest', 'manifests')}"
        digests = dict(manifest.layers)
        size = sum(self._survey.layers[digest].size for digest in digests if digest in self._survey.layers)
        platform = "/".join(str(config[key]) for key in ("os", "architecture") if _is_text(config.get(key)))
        layers = html.counted(len(manifest.layers), "layer", "layers")
        return " · ".join(filter(None, (html.legible(platform, html.TEXT), layers, html.in_units(size))))

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

    def _image(self, repository: Repository, manifest: Manifest, config: dict[str, Any]) -> html.Html:
        layers = manifest.layers[: min(LAYERS_OF_ONE, self._layers_left)]
        self._layers_left -= len(layers)
        made = _created_by(config, len(manifest.layers))
        rows = [
            self._layer_row(repository, digest, media_type, made[place] if made else None)
            for place, (digest, media_type) in enumerate(layers)
        ]
        return html.join(
            html.as_table(("Size", "Layer", "Created by", "Also in"), rows, numbers=range(1))
            if rows
            else None,
            html.and_more(len(manifest.layers) - len(layers), "layer", "layers"),
        )

    def _layer_row(
        self, repository: Repository, digest: Digest, media_type: str, made: str | None
    ) -> Sequence[html.Node]:
        layer = self._survey.layers.get(digest) if digest in repository.blobs else None
        told = html.legible(media_type if made is None else made, html.TEXT)
        text = html.element(
            "span",
            told,
            class_="quiet" if made is None else "mono",
            title=html.legible(media_type, html.TEXT),
        )
        if layer is None:
            return html.element("span", "not here", class_="none"), html.short_digest(digest), text, None
        return (
            html.in_units(layer.size),
            html.element("a", html.short_digest(digest), href=f"#{html.anchor(digest)}"),
            text,
            html.some_names(name for name in layer.repositories if name != repository.name),
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


def _told(manifest: Manifest) -> html.Html | None:
    """Return what a manifest says of itself beside its layers."""
    pairs = [("subject", manifest.subject)] if manifest.subject else []
    if manifest.artifact_type and manifest.artifact_type not in _CONFIGS:
        pairs.append(("type", manifest.artifact_type))
    annotations = manifest.annotations or {}
    pairs += [(name, value) for name, value in annotations.items() if isinstance(value, str)][:ANNOTATIONS]
    lines = [
        html.element(
            "div",
            html.element("dt", html.element("bdi", html.legible(name, html.TEXT)), ": "),
            html.element("dd", html.legible(value, html.TEXT)),
        )
        for name, value in pairs
    ]
    return html.element("dl", *lines, class_="told") if lines else None


def _children(manifest: Manifest) -> html.Html:
    shown = manifest.successors[:LAYERS_OF_ONE]
    rows = [(html.short_digest(each.digest), html.legible(each.media_type, html.TEXT)) for each in shown]
    more = html.and_more(len(manifest.successors) - len(shown), "manifest", "manifests")
    return html.join(html.as_table(("Manifest", "Media type"), rows) if rows else None, more)
