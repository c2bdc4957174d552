"""Profiles: what named registries do where the specification leaves a choice, or against it.

Owns reading them from `profiles.toml`, and the order in which their rules act. Their evidence is in
PROFILES.md. Must not know what the rules do.
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from mock_registry.errors import close_to
from mock_registry.exchange import Exchange, Refusal, Response
from mock_registry.service import Handler

from . import quirks, upload_quirks  # noqa: F401 (define the effects)
from .effect import EFFECTS, QUIRKS, Incident, Rule
from .parsing import parse_line
from .rules import Table
from .scene import Scene, Surroundings


@dataclass(frozen=True, slots=True)
class Profile:
    """What one named registry does.

    Attributes:
        name: What it is asked for by.
        registry: Which registry it stands for, and which version.
        rules: What it does: lines in the grammar of faults, which may name quirks too. They act around the
            handler, the first one outermost, and are not named in the journal.
        faults: What it does by faults, which can be listed and removed.
        manifest_limit: Bytes of the largest manifest; ``None`` is this registry's own limit.
    """

    name: str
    registry: str
    rules: tuple[str, ...] = field(default=(), repr=False)
    faults: tuple[str, ...] = ()
    manifest_limit: int | None = None


class Habits:
    """A profile's rules in force in one registry."""

    def __init__(self, profile: Profile, surroundings: Surroundings) -> None:
        effects = EFFECTS | QUIRKS
        faults = [parse_line(line, effects=effects) for line in profile.rules]
        self._table = Table(Rule(fault, f"{profile.name}-{number}") for number, fault in enumerate(faults))
        self._surroundings = surroundings

    async def answer(self, exchange: Exchange, handler: Handler) -> Response:
        """Answer a request as the named registry would.

        Raises:
            Severed: The named registry drops the connection.
        """
        rules = self._table.find(exchange)
        scene = Scene(exchange, self._surroundings)
        passed: list[Incident] = []
        try:
            response = await self._ask(rules, scene, passed, handler)
            for incident in reversed(passed):
                if incident.rule.expects(response):
                    response = await incident.effect.reply(incident, response)
            return response
        finally:
            for incident in passed:
                incident.effect.over(incident)

    async def _ask(
        self, rules: tuple[Rule, ...], scene: Scene, passed: list[Incident], handler: Handler
    ) -> Response:
        """Return the handler's response, or that of the first rule which answers instead."""
        exchange = scene.exchange
        try:
            for rule in rules:
                if all(test(exchange) for test in rule.tests):
                    incident = rule.begin(scene)
                    response = None if rule.waits else await rule.effect.arrive(incident)
                    if response is not None:
                        return response
                    passed.append(incident)
            return await handler(scene.service, exchange)
        except Refusal as refusal:
            return refusal.response()


def _load() -> dict[str, Profile]:
    """Read `profiles.toml`, which says what its keys are."""
    data = tomllib.loads(Path(__file__).with_name("profiles.toml").read_text(encoding="utf-8"))
    profiles = {}
    for name, given in data["profiles"].items():
        rules = (*data["shared"].get(given.get("like"), ()), *given["rules"])
        faults = tuple(given.get("faults", ()))
        profiles[name] = Profile(name, given["registry"], rules, faults, given.get("manifest_limit"))
    return profiles


PROFILES = _load()
"""All profiles, by name."""

NAMES = tuple(PROFILES)
"""The names of all profiles."""


def profile_named(name: str) -> Profile:
    """Return a profile.

    Raises:
        ValueError: There is no profile of this name.
    """
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}{close_to(name, NAMES)}")
    return PROFILES[name]
