"""The images that FROM names: a registry's image, `oci:DIR[:TAG]`, `record:NAME`.

Owns how a build reads such an image. Must not know Dockerfiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from regsim.cli.output import status
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
    from regsim.cli.connecting import Connecting
    from regsim.client.opener import Opener
    from regsim.transfer.ends import Source

_MAX_DEPTH = 4


class AddressedBases:
    """Finds base images by their addresses; imports what speaks to registries when the first one is needed.

    A build from scratch or from the cache needs none.

    Args:
        names: `--build-context`: the address that a name stands for.
        connecting: how to connect to registries.
    """

    def __init__(self, names: Mapping[str, str], connecting: Connecting) -> None:
        self._names = names
        self._connecting = connecting
        self._hosts: dict[str, None] = {}
        self._openers: list[Opener] = []

    async def open(self, name: str, platform: Platform) -> OpenImage:
        """Return the image of a name.

        Raises:
            UsageError: the name is not an address, or --creds would be sent to two registries.
            NotFoundError, LocalFileError, RegistryError, NetworkError, ContentError: it cannot be read.
        """
        address = self._names.get(name, name)
        if address.startswith(RECORD):
            record = address.removeprefix(RECORD)
            recipes = [load_record(record).image_recipe(record)]
            return await base_of(ImageSource(recipes, LayerForge(default_folder())), record)
        from regsim.client.opener import Opener  # noqa: PLC0415  (see above)

        hosts = registries(address)
        if not self._openers or not self._hosts.keys() >= {*hosts}:
            self._hosts |= dict.fromkeys(hosts)
            self._openers.append(Opener(self._connecting.connection(*self._hosts), warn=status))
        where = parse(address)
        source = self._openers[-1].source(where)
        root = await source.resolve(where.target, Account())
        return await _image(source, root, platform, address)

    async def close(self) -> None:
        """Close every connection."""
        for opener in self._openers:
            await opener.close()


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
