"""Small content that was read a moment ago, so that it is not opened and read for every request.

Owns what is kept in memory and for how long. Must not know where content is on the disk.
"""

from collections import OrderedDict

from mock_registry.spec import Digest

SMALL = 1 << 16
"""Octets up to which content is kept: configs, and layers that change a file or two."""

_ROOM = 16 << 20


class Cache:
    """The content used last, each piece for as long as its file is the one that it was read from."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Digest, tuple[object, bytes]] = OrderedDict()
        self._octets = 0

    def get(self, digest: Digest, file: object) -> bytes | None:
        """Return content, if what tells its file apart is still the same."""
        kept = self._kept.get(digest)
        if kept is None or kept[0] != file:
            return None
        self._kept.move_to_end(digest)
        return kept[1]

    def put(self, digest: Digest, file: object, content: bytes) -> None:
        """Keep content; what was not used for longest makes room."""
        self.drop(digest)
        self._kept[digest] = file, content
        self._octets += len(content)
        while self._octets > _ROOM:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._octets -= len(dropped)

    def drop(self, digest: Digest) -> None:
        """Forget content."""
        kept = self._kept.pop(digest, None)
        if kept is not None:
            self._octets -= len(kept[1])
