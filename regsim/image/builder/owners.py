"""Who `--chown` and USER name: numbers, or names by the image's own `/etc/passwd` and `/etc/group`.

Owns that reading (passwd(5), group(5)). Must not know where the files come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_PASSWD = b"etc/passwd"
_GROUP = b"etc/group"
_MAX_ID = 2**32 - 2
_FIELDS = 3


async def owner(text: str, read: Callable[[bytes], Awaitable[bytes]]) -> tuple[int, int]:
    """Return the numbers of a user and a group.

    A user number without a group is the group's number too; a user name has the group of its line. root is 0
    whatever the files say, and where there are none.

    Args:
        text: `user`, `user:group`, names or numbers.
        read: returns a file of the image, nothing where there is none.

    Raises:
        UsageError: a name is not in those files, or a number is too large.
    """
    user, colon, group = text.partition(":")
    uid = 0 if user == "root" else _number(user)
    gid = uid
    if uid is None:
        line = _line(await read(_PASSWD), user)
        if line is None or _number(line[2]) is None:
            raise UsageError(f"there is no user {user!r:.60} in the image", hint=_hint("/etc/passwd"))
        uid, gid = _number(line[2]), _number(line[3]) if len(line) > _FIELDS else 0
    if colon:
        gid = 0 if group == "root" else _number(group)
        if gid is None:
            line = _line(await read(_GROUP), group)
            gid = _number(line[2]) if line is not None else None
            if gid is None:
                raise UsageError(f"there is no group {group!r:.60} in the image", hint=_hint("/etc/group"))
    return uid or 0, gid or 0


def _hint(file: str) -> str:
    return f"give a number, or build on an image whose {file} has that name"


def _number(text: str) -> int | None:
    if not text.isascii() or not text.isdigit() or len(text) > len(str(_MAX_ID)):
        return None
    if int(text) > _MAX_ID:
        raise UsageError(f"no such owner: {text}", hint=f"numbers go up to {_MAX_ID}")
    return int(text)


def _line(raw: bytes, name: str) -> list[str] | None:
    for line in raw.decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if len(fields) >= _FIELDS and fields[0] == name and name:
            return fields
    return None
