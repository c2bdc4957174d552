"""Profiles: the ways of named registries, each with its evidence.

Owns which quirks a named registry has. Must not know how they are asked for.
"""

from importlib import import_module

from mock_registry.errors import close_to

from .quirk import Profile, Quirk

# Whoever only asks for the names, such as a help text, loads no quirks.
_PROFILES = {
    "distribution-2.8": "distribution.distribution_2",
    "distribution-3": "distribution.distribution_3",
    "olareg": "small.olareg",
    "ggcr": "small.ggcr",
    "ecr": "hosted.ecr",
    "ghcr": "hosted.ghcr",
    "quay": "hosted.quay",
    "gitlab": "hosted.gitlab",
    "acr": "hosted.acr",
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
    module, _, make = _PROFILES[name].partition(".")
    profile: Profile = getattr(import_module(f"{__name__}.{module}"), make)()
    return profile
