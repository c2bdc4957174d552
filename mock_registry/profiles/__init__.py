"""Profiles: the ways of named registries, each with its evidence.

Owns which quirks a named registry has. Must not know how they are asked for.
"""

from collections.abc import Callable

from mock_registry.faults.quantities import close_to

from .distribution import distribution_2, distribution_3
from .hosted import acr, ecr, ghcr, gitlab, quay
from .quirk import Profile, Quirk
from .small import ggcr, olareg

_PROFILES: dict[str, Callable[[], Profile]] = {
    "distribution-2.8": distribution_2,
    "distribution-3": distribution_3,
    "olareg": olareg,
    "ggcr": ggcr,
    "ecr": ecr,
    "ghcr": ghcr,
    "quay": quay,
    "gitlab": gitlab,
    "acr": acr,
}

NAMES = tuple(_PROFILES)
"""The names of all profiles."""

__all__ = ["NAMES", "Profile", "Quirk", "profile_named"]


def profile_named(name: str) -> Profile:
    """Return a profile, fresh: what it remembers belongs to one registry.

    Raises:
        ValueError: There is none of this name.
    """
    if name not in _PROFILES:
        raise ValueError(f"unknown profile {name!r}{close_to(name, NAMES)}")
    return _PROFILES[name]()
