"""From a layer of a scenario to the recipe that makes its bytes.

Owns the translation, and the question whether such a layer can be made. Must not know files or positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsim.core import media_types
from regsim.core.quantities import format_size
from regsim.errors import UsageError
from regsim.scenario.schema import LayerFormat
from regsim.synth.layer_plan import minimum_size
from regsim.synth.recipe import LayerRecipe, layer_key

if TYPE_CHECKING:
    from regsim.scenario.schema import LayerSpec

_MEDIA_TYPES = {LayerFormat.GZIP: media_types.OCI_LAYER_GZIP, LayerFormat.TAR: media_types.OCI_LAYER}


def layer_recipe(spec: LayerSpec, *, seed: int, image: str, index: int) -> LayerRecipe:
    """Return the recipe of a scenario's layer.

    Args:
        spec: what the scenario says about it.
        seed: the scenario's.
        image: the key of the image that defines the layer, and for a platform's image its platform too.
        index: the layer's place among those that this image defines, base first.

    Raises:
        UsageError: no such layer can be made.
    """
    return LayerRecipe(
        key=layer_key(seed, image, index),
        size=spec.size,
        media_type=_MEDIA_TYPES[spec.media_type],
        ratio=spec.ratio,
        files=spec.files,
    )


def check_size(recipe: LayerRecipe) -> None:
    """Check that a valid layer can be as small as this.

    Raises:
        UsageError: it cannot; the smallest size is named.
    """
    least = minimum_size(recipe)
    if recipe.size < least:
        raise UsageError(
            f"{format_size(recipe.size)} is too small for this layer",
            hint=f"the smallest is {format_size(least)}",
        )
