"""Ways to log in, as a command line, a scenario or a marker says them in words.

Owns the words. Must not know where other words were read.
"""

import os
from collections.abc import Iterable

from .base import Auth, BasicAuth, Right
from .token_auth import TokenAuth
from .users import Htpasswd, Pairs, Users

MODES = ("none", "basic", "token")


def auth_from_words(
    mode: str,
    *,
    users: Iterable[str] = (),
    htpasswd: str | os.PathLike[str] | None = None,
    rights: Iterable[str] = (),
    anonymous_pull: bool = False,
) -> Auth | None:
    """Return the way to log in.

    Args:
        mode: ``none``, ``basic`` or ``token``.
        users: Each ``NAME:PASSWORD``.
        htpasswd: A file of users, in place of ``users``.
        rights: Each ``WHO=REPOSITORIES:ACTIONS``, see `Right`; no WHO stands for everyone, ``*`` for all who
            log in, no ACTIONS for all of them. Without any, all who log in may do everything.
        anonymous_pull: Let everyone pull everything, besides.

    Raises:
        MissingPackageError: An htpasswd file needs a package that is not installed.
        OSError: The htpasswd file cannot be read.
        ValueError: The words make no sense, or not together.
    """
    users, rights = list(users), list(rights)
    if mode not in MODES:
        raise ValueError(f"auth is one of {', '.join(MODES)}, not {mode!r}")
    if mode == "none":
        if users or htpasswd or rights or anonymous_pull:
            raise ValueError("users and rights mean nothing without auth: basic or token")
        return None
    known = _users(users, htpasswd)
    granted = [_right(text) for text in rights] or None
    if mode == "basic":
        return BasicAuth(known, rights=granted, anonymous_pull=anonymous_pull)
    return TokenAuth(known, rights=granted, anonymous_pull=anonymous_pull)


def _users(texts: list[str], htpasswd: str | os.PathLike[str] | None) -> Users:
    if htpasswd and texts:
        raise ValueError("users are given one by one, or in an htpasswd file, not both")
    if htpasswd:
        return Htpasswd.read(htpasswd)
    pairs: dict[str, str] = {}
    for text in texts:
        name, colon, password = text.partition(":")
        if not colon:
            raise ValueError("a user is NAME:PASSWORD")  # the text may be a password: it is not repeated
        pairs[name] = password
    if not pairs:
        raise ValueError("no user can log in: name one, NAME:PASSWORD, or an htpasswd file")
    return Pairs(pairs)


def _right(text: str) -> Right:
    who, equals, rest = text.partition("=")
    repositories, _, actions = rest.partition(":")
    if not equals or not repositories:
        raise ValueError(f"a right is WHO=REPOSITORIES:ACTIONS, not {text!r}")
    return Right(who or None, repositories, *([actions] if actions else []))
