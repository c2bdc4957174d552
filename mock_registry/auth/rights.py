"""Who may do what with which repositories.

Owns the patterns and the decision. Must not know of requests or tokens.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mock_registry.access import Action

ANYBODY = "*"
"""Stands for every user who proved a name."""

ALL_ACTIONS = ",".join(Action)


@dataclass(frozen=True, slots=True)
class Right:
    """A permission. What no right permits is forbidden.

    Attributes:
        who: A user's name; ``"*"`` for all who proved one; ``None`` for everyone, without a name too.
        repositories: A repository's name, or a pattern of names: ``*`` stands for any part of one path
            component, ``**`` for anything.
        actions: Of ``pull``, ``push`` and ``delete``, with commas.
    """

    who: str | None
    repositories: str = "**"
    actions: str = ALL_ACTIONS


class Rights:
    """All permissions of a registry.

    Args:
        rights: The permissions; ``None`` lets all who prove a name do everything.
        anonymous_pull: Let everyone pull everything, besides.

    Raises:
        ValueError: A right names an action that there is not.
    """

    def __init__(self, rights: Iterable[Right] | None, *, anonymous_pull: bool = False) -> None:
        granted = [Right(ANYBODY)] if rights is None else list(rights)
        if anonymous_pull:
            granted.append(Right(None, actions=Action.PULL))
        self._compiled = [
            (right.who, _compile(right.repositories), _actions(right.actions)) for right in granted
        ]

    @property
    def anonymous(self) -> bool:
        """Somebody without a name may do something."""
        return any(who is None for who, _, _ in self._compiled)

    def allow(self, user: str | None, action: Action, repository: str) -> bool:
        """Tell whether a user, or someone without a name, may do that with the repository."""
        return any(
            action in actions and _is_meant(who, user) and pattern.fullmatch(repository)
            for who, pattern, actions in self._compiled
        )


def _is_meant(who: str | None, user: str | None) -> bool:
    return who is None or (user is not None and who in (ANYBODY, user))


def _compile(pattern: str) -> re.Pattern[str]:
    texts = {"**": ".*", "*": "[^/]*"}
    pieces = re.split(r"(\*\*|\*)", pattern)
    return re.compile("".join(texts.get(piece) or re.escape(piece) for piece in pieces))


def _actions(text: str) -> frozenset[Action]:
    try:
        return frozenset(Action(word.strip()) for word in text.split(","))
    except ValueError:
        raise ValueError(f"actions are {ALL_ACTIONS}, not {text!r}") from None
