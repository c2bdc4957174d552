"""Scopes of tokens, such as ``repository:shop/api:pull,push``.

Owns their grammar. Must not know who is granted which.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from mock_registry.access import Action

REPOSITORY = "repository"
ANY_ACTION = "*"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token is asked for, or good for.

    Attributes:
        kind: ``repository`` or ``registry``; a plugin's class in brackets is kept.
        name: The repository's, or ``catalog``.
        actions: In the order they were written.
    """

    kind: str
    name: str
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{','.join(self.actions)}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read one scope; ``None`` if the text is none."""
        kind, first, rest = text.partition(":")
        name, last, actions = rest.rpartition(":")  # the name of a repository may begin with host:port
        if not (first and last and kind and name and actions):
            return None
        return cls(kind, name, tuple(dict.fromkeys(actions.split(","))))


CATALOG = Scope("registry", "catalog", (ANY_ACTION,))


def repository_scope(name: str, *actions: Action) -> Scope:
    """Return the scope of actions on a repository."""
    return Scope(REPOSITORY, name, tuple(map(str, actions)))


def parse_scopes(values: Iterable[str]) -> list[Scope]:
    """Read scope parameters, each of which may hold several, with spaces. What is no scope is left out."""
    texts = [text for value in values for text in value.split()]
    return [scope for text in texts if (scope := Scope.parse(text)) is not None]
