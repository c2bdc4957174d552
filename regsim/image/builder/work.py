"""Where layers come from while an image is built: the cache, or a writer.

Owns how a step's key is looked up, how a layer is written and remembered, and what is told of each step. Must
not know instructions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from regsim.image.builder.bases import BaseLayer
from regsim.image.builder.cache import Step
from regsim.image.builder.layers import StageLayer, stage_layer
from regsim.image.builder.listing import Listing, write_listed
from regsim.image.builder.placing import Placement
from regsim.image.compress import Compressor, identity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regsim.core import Descriptor, Digest
    from regsim.image.builder.cache import Cache
    from regsim.image.builder.effects import Effect
    from regsim.store.layout import LayoutStore
    from regsim.store.protocols import Content
    from regsim.synth.synthetic import LayerInfo

# Part of every key: it changes whenever the same input would give another layer.
BUILDER = "regsim-build/2"

Maker: TypeAlias = Callable[[ExitStack], Awaitable[Placement]]


class Outcome(StrEnum):
    """What became of an instruction."""

    CACHED = "CACHED"
    BUILT = "built"
    METADATA = "metadata"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What is told of an instruction when it is done.

    Args:
        stage: the name of its stage.
        created_by: its line in the history.
        outcome: whether it made a layer.
        seconds: how long that took.
        size: bytes of the files in its layer.
        layer: its layer, if it has one.
    """

    stage: str
    created_by: str
    outcome: Outcome
    seconds: float = 0.0
    size: int = 0
    layer: Descriptor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What all stages of a build share.

    Args:
        store: takes layers that are written where there is no cache.
        cache: knows layers that were written before; None to write all.
        compressor: what layers go through.
        timestamp: of all that is made, in seconds since 1970.
        effects: what RUNs leave behind, by their commands.
        tell: is told each instruction when it is done.
        clock: returns seconds, from any beginning.
    """

    store: LayoutStore
    cache: Cache | None
    compressor: Compressor
    timestamp: int
    effects: Mapping[str, Effect]
    tell: Callable[[StepReport], None]
    clock: Callable[[], float]

    def note(self, stage: str, created_by: str) -> None:
        """Tell of an instruction that made no layer."""
        self.tell(StepReport(stage=stage, created_by=created_by, outcome=Outcome.METADATA))

    async def layer(self, stage: str, created_by: str, inputs: object, make: Maker) -> StageLayer:
        """Return the layer that an instruction makes of its inputs, made now unless it is known.

        Args:
            stage: the name of its stage.
            created_by: its line in the history.
            inputs: all that decides the layer, as JSON has it.
            make: puts its entries together.

        Raises:
            RegsimError: it cannot be made.
        """
        start = self.clock()
        key = self._key(inputs)
        step = await self.cache.find(key) if self.cache is not None else None
        outcome = Outcome.CACHED if step is not None else Outcome.BUILT
        listing: Listing | None = None
        if step is None:
            info, listing = await self._write(make)
            step = Step(layer=info.descriptor, diff_id=info.diff_id, size=listing.size)
            if self.cache is not None:
                await self.cache.keep_listing(step.layer.digest, listing)
                await self.cache.keep(key, step)
        self.tell(
            StepReport(
                stage=stage,
                created_by=created_by,
                outcome=outcome,
                seconds=self.clock() - start,
                size=step.size,
                layer=step.layer,
            )
        )
        return self.known_layer(step.layer, step.diff_id, self._content(step.layer), listing)

    def known_layer(
        self,
        descriptor: Descriptor,
        diff_id: Digest,
        content: Callable[[], Content],
        listing: Listing | None = None,
    ) -> StageLayer:
        """Return a layer whose listing is read, from the cache or the blob, when it is first asked for."""
        base = BaseLayer(descriptor=descriptor, diff_id=diff_id, content=content, listing=listing)
        return stage_layer(base, self.cache)

    @property
    def layers(self) -> LayoutStore:
        """Where layers are written."""
        return self.cache.layers if self.cache is not None else self.store

    def _content(self, layer: Descriptor) -> Callable[[], Content]:
        return lambda: self.layers.content(layer)

    def _key(self, inputs: object) -> str:
        parts = [BUILDER, identity(self.compressor), self.timestamp, inputs]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    async def _write(self, make: Maker) -> tuple[LayerInfo, Listing]:
        with ExitStack() as stack:
            placement = await make(stack)
            return await write_listed(
                self.layers, placement.entries.values(), self.compressor, placement.checksums
            )
