"""Stand-ins for layers of which no bytes will move: nothing is generated, and digests are invented.

Because the digests are as long as real ones, configs and manifests have exactly the sizes of the real ones.
Must not know images or scenarios, and needs no event loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.core import Digest
from regsim.store.memory import AbsentContent
from regsim.synth.recipe import plan

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from regsim.core import Descriptor
    from regsim.store.protocols import Content
    from regsim.synth.recipe import LayerInfo, LayerPlan, LayerRecipe


class StandIns:
    """Knows layers by their recipes alone (`images.Layers`)."""

    async def layers(self, plans: Sequence[LayerPlan]) -> list[LayerInfo]:
        """Return what images say about layers, under invented digests."""
        return [stand_in(each) for each in plans]

    def content(self, recipe: LayerRecipe, descriptor: Descriptor) -> StandIn:
        """Return a layer as content that cannot be opened."""
        return StandIn(descriptor, recipe)


@dataclass(frozen=True, slots=True)
class StandIn:
    """A layer under an invented digest (`protocols.Unmade`)."""

    descriptor: Descriptor
    recipe: LayerRecipe

    def open(self) -> AsyncGenerator[bytes, None]:
        """Return a stream that only raises.

        Raises (while iterating):
            NotFoundError: always.
        """
        return AbsentContent(self.descriptor, "the model", "its layers have no bytes").open()

    async def made(self) -> Content:
        """Make the layer, to learn its digest, and return it under that one.

        Raises:
            UsageError: the recipe cannot be met.
        """
        from regsim.synth.synthetic import LayerForge, default_folder  # noqa: PLC0415  (it needs an event loop)

        forge = LayerForge(default_folder())
        return forge.content(self.recipe, (await forge.layer(plan(self.recipe))).descriptor)


def stand_in(planned: LayerPlan) -> LayerInfo:
    """Return what an image says about a layer, under invented digests of the right length."""
    blob, tar = (Digest.of(f"stand-in {kind} {planned.identity}".encode()) for kind in ("blob", "tar"))
    return planned.info(blob, tar)
