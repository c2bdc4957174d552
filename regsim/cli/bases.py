"""The images that FROM names: a registry's image, `oci:DIR[:TAG]`, `record:NAME`.

Owns how a build reads such an image. Must not know Dockerfiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from regsim.client.image_address import RECORD, parse, registries
from regsim.core import Descriptor, Platform, media_types
from regsim.core.account import Account
from regsim.core.image import Image
from regsim.core.manifest import parse as parse_manifest
from regsim.errors import UsageError
from regsim.image.builder.builder import base_of
from regsim.image.opened import OpenImage
from regsim.synth.images import ImageSource
from regsim.synth.recorded import load_record
from regsim.synth.synthetic import LayerForge, default_folder

if TYPE_CHECKING:
    from regsim.client.opener import Opener
    from regsim.transfer.ends import Source

_MAX_DEPTH = 4


class AddressedBases:
    """Finds images by their addresses.

    Args:
        opener: opens them.
        names: `--build-context`: the address that a name stands for.
    """

    def __init__(self, opener: Opener, names: Mapping[str, str]) -> None:
        self._opener = opener
        self._names = names

    async def open(self, name: str, platform: Platform) -> OpenImage:
        """Return the image of a name.

        Raises:
            UsageError: the name is not an address.
            NotFoundError, LocalFileError, RegistryError, NetworkError, ContentError: it cannot be read.
        """
        address = self._names.get(name, name)
        if address.startswith(RECORD):
            return await _recorded(address.removeprefix(RECORD))
        where = parse(address)
        source = self._opener.source(where)
        root = await source.resolve(where.target, Account())
        return await _image(source, root, platform, address)


def hosts_of(address: str) -> set[str]:
    """Return the registry that an address is in, if it is in one."""
    return set() if address.startswith(RECORD) else set(registries(address))


async def _recorded(name: str) -> OpenImage:
    source = ImageSource([load_record(name).image_recipe(name)], LayerForge(default_folder()))
    return await base_of(source, name)


async def _image(source: Source, root: Descriptor, platform: Platform, name: str) -> OpenImage:
    for _ in range(_MAX_DEPTH):
        document = parse_manifest(root, await source.manifest(root, Account()))
        if not media_types.is_index(root.media_type):
            break
        children = [each.descriptor for each in document.successors]
        fitting = [each for each in children if each.platform and each.platform.satisfies(platform)]
        if not fitting:
            offered = ", ".join(sorted({str(each.platform) for each in children if each.platform}))
            raise UsageError(f"{name} has no image for {platform}", hint=f"it has {offered or 'none'}")
        root = fitting[0]

    return await OpenImage.of(Image.of(document), lambda layer: source.content(layer, Account()), name)
