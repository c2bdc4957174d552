"""How a scenario's mock registry is to behave, in the mock registry's own words.

Owns judging them while a file is read, so that a mistake is told with its place. Must not know what comes of
them: the world hands them on.
"""

from __future__ import annotations

from regsim.core.suggest import did_you_mean
from regsim.errors import UsageError

# Written out, since the schema of scenarios needs no server; a test holds them against the registry's own.
PROFILES = ("distribution-2.8", "distribution-3", "olareg", "ggcr", "ecr", "ghcr", "quay", "gitlab", "acr")


def parse_profile(text: str) -> str:
    """Return the name of a profile.

    Raises:
        UsageError: there is no such one.
    """
    if text not in PROFILES:
        raise UsageError(f'no profile of the mock registry: "{text[:80]}"', hint=did_you_mean(text, PROFILES))
    return text


def parse_fault(text: str) -> str:
    """Return a fault, as it is written after `regsim serve --fault`.

    Raises:
        UsageError: it is none; all that is wrong with it is told.
    """
    from mock_registry.faults.parsing import FaultError, parse_line  # noqa: PLC0415  (most scenarios have none)

    try:
        parse_line(text)
    except FaultError as error:
        problems = "; ".join(str(each) for each in error.problems)
        hint = "write [METHOD] [ROUTE] [CONDITION=VALUE] EFFECT [VALUE], such as GET blob nth=2 cut 1MB"
        raise UsageError(f"not a fault: {problems}", hint=hint) from None
    return text
