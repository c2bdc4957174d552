"""A place to build images in, and what a test wants to know of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from regsim.cli.build import AddressedBases
from regsim.cli.connecting import Connecting
from regsim.core import Platform
from regsim.image.apply import apply
from regsim.image.builder.builder import build
from regsim.image.builder.context import Checksums, Context, read_ignore
from regsim.image.builder.work import Cache, Outcome, Request, StepReport
from regsim.image.compression import compressor
from regsim.image.layer_read import read_layer
from regsim.image.spool import DiskSpool
from regsim.image.tree import EMPTY
from regsim.store.layout import LayoutStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from regsim.image.builder.effects import Effect
    from regsim.image.opened import OpenImage
    from regsim.store.entry import Entry

HOST = Platform("linux", "amd64")


@dataclass(kw_only=True)
class Image:
    """An image that was built, and read again from its layout."""

    built: OpenImage
    steps: list[StepReport]
    files: dict[str, Entry]
    data: dict[str, bytes]

    @property
    def digest(self) -> str:
        return self.built.manifest.descriptor.digest

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.built.config.data)
        return document

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.document["config"]
        return config

    @property
    def history(self) -> list[str]:
        return [line["created_by"] for line in self.document["history"]]

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of each instruction that makes a layer."""
        return [step.outcome for step in self.steps if step.outcome is not Outcome.METADATA]


@dataclass(kw_only=True)
class Bench:
    """Builds images of one context into one layout."""

    context: Path
    layout: Path
    cache: Path | None = None
    names: dict[str, str] = field(default_factory=dict)

    def write(self, path: str, data: str | bytes = "", *, mode: int = 0o644) -> Path:
        """Write a file of the context."""
        file = self.context / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)
        file.chmod(mode)
        return file

    async def build(
        self,
        text: str,
        *,
        effects: Mapping[str, Effect] | None = None,
        tag: str = "v1",
        compression: str = "gzip",
        **options: Any,
    ) -> Image:
        """Build, put the image into the layout, and read back what it holds."""
        cache = Cache(self.cache) if self.cache is not None else None
        checksums = Checksums(cache.checksums_file(self.context) if cache is not None else None)
        steps: list[StepReport] = []
        store = LayoutStore(self.layout, create=True)
        bases = AddressedBases(self.names, Connecting(plain_http=False))
        try:
            request = Request(
                text=text,
                name="Dockerfile",
                context=Context(
                    self.context, read_ignore(self.context, self.context / "Dockerfile"), checksums
                ),
                bases=bases,
                compressor=compressor(compression),
                host=HOST,
                effects=effects or {},
                **options,
            )
            built = await build(request, store, cache, tell=steps.append)
            await built.export(store, tag, cache.layers if cache is not None else store)
        finally:
            await bases.close()
        checksums.save()
        files, data = await _files(store, built)
        return Image(built=built, steps=steps, files=files, data=data)


async def _files(store: LayoutStore, built: OpenImage) -> tuple[dict[str, Entry], dict[str, bytes]]:
    tree, contents = EMPTY, []
    with DiskSpool() as spool:
        for layer in built.layers:
            read = await read_layer(store.content(layer.descriptor), spool=spool)
            tree, _ = apply(tree, read)
            contents.append({each.path: b"".join(each.content()) for each in read if each.content})
        files = {path.decode("utf-8", "surrogateescape"): node for path, node in tree.walk()}
        data = {
            path: contents[node.layer][node.entry.path]
            for path, node in files.items()
            if node.entry.path in contents[node.layer]
        }
    return {path: node.entry for path, node in files.items()}, data


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An empty context, a layout and a cache."""
    (tmp_path / "context").mkdir()
    return Bench(context=tmp_path / "context", layout=tmp_path / "layout", cache=tmp_path / "cache")
