"""What a run came to, and its JSON form (DESIGN 6, *contract*: keys are added, never renamed).

Owns the result format. Computes nothing that is not a sum over ledgers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from regsim.core.ledger import EMPTY, Ledger, Summary, Tally, fields_document, violations
from regsim.errors import ExitCode, RegsimError, worst

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regsim.core import Descriptor, Digest

SCHEMA_VERSION = "1"


class Mode(StrEnum):
    """How a run was done: over HTTP, in the untimed model, or asking only."""

    WIRE = "wire"
    MODEL = "model"
    PLAN = "plan"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferResult:
    """One transfer of a run.

    Attributes:
        ledger: its account.
        step: the number of its step, from 1, and the step's name if it has one.
        node: who did it, such as `edge-3`.
        weight: how many nodes it stands for.
        expected_error: the failure that the scenario wanted.
    """

    ledger: Ledger
    step: int = 1
    step_name: str | None = None
    node: str | None = None
    weight: int = 1
    image: str | None = None
    expected_error: bool = False

    @property
    def summary(self) -> Summary:
        """The ledger's sums, for all nodes that the transfer stands for."""
        return self.ledger.summary * self.weight

    def to_json(self, mode: Mode) -> dict[str, Any]:
        """Return the transfer under the keys of the result format."""
        ledger = self.ledger
        seconds = "measured" if mode is Mode.WIRE else "predicted"
        return {
            "step": self.step,
            "step_name": self.step_name,
            "node": self.node,
            "weight": self.weight,
            "direction": str(ledger.direction),
            "reference": ledger.reference,
            "image": self.image,
            "digest": ledger.digest,
            "unselected": ledger.unselected,
            "summary": self.summary.to_json(),
            "entries": [entry.to_json() for entry in ledger.entries],
            "seconds": {seconds: round(ledger.seconds, 6)} if mode is not Mode.MODEL else {},
            "error": error_document(ledger.error),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The image that a container was committed to.

    Attributes:
        image: what the scenario calls it.
        digest: of its manifest.
        layer: what the container added; None where it had changed nothing.
    """

    image: str
    digest: Digest
    layer: Descriptor | None

    def to_json(self) -> dict[str, Any]:
        """Return the image under the keys of the result format."""
        layer = {"digest": self.layer.digest, "size": self.layer.size} if self.layer is not None else None
        return {"image": self.image, "digest": self.digest, "layer": layer}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerResult:
    """What a step did with a container. No wire is involved.

    Attributes:
        step: the number of the step, from 1, and the step's name if it has one.
        node: where the container runs.
        container: its name.
        action: what was done, in the scenario's word.
        image: what the container was made from.
        paths: what was written, removed, read or listed.
        writable: the files in the container's own layer after the step.
        copied_up: the image's files that the step copied into it, whole.
        names: what is in the directory that was listed.
        committed: the image that was made.
        error: what went wrong, if it did.
        expected_error: the scenario wanted that.
    """

    step: int
    step_name: str | None = None
    node: str | None = None
    container: str
    action: str
    image: str
    paths: tuple[str, ...] = ()
    writable: Tally = field(default_factory=Tally)
    copied_up: Tally = field(default_factory=Tally)
    names: tuple[str, ...] | None = None
    committed: Committed | None = None
    error: RegsimError | None = None
    expected_error: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return what was done under the keys of the result format."""
        return fields_document(self, "expected_error") | {"error": error_document(self.error)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check or expectation: what was asked, of which step, and what was found."""

    expression: str
    step: int | None
    passed: bool
    actual: float | int | str | None

    def to_json(self) -> dict[str, Any]:
        """Return the check under the keys of the result format."""
        return fields_document(self)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Whether ledger and journal agree; None where there is no second account."""

    matched: bool | None = None
    differences: tuple[str, ...] = ()

    @classmethod
    def alone(cls, ledgers: Iterable[Ledger]) -> Reconciliation:
        """Judge ledgers by their own laws, where no journal can be read."""
        differences = tuple(
            f"{ledger.direction} {ledger.reference}: {difference}"
            for ledger in ledgers
            for difference in violations(ledger)
        )
        return cls(False if differences else None, differences)

    def to_json(self) -> dict[str, Any]:
        """Return the reconciliation under the keys of the result format."""
        return fields_document(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A scenario run, or a single transfer from the command line.

    Attributes:
        description: the question that the scenario answers.
        containers: what steps did with containers, in order.
        error: what stopped the run; transfers and containers that failed carry their own.
        interrupted: the user stopped it; the result holds what was done until then.
    """

    scenario: str | None = None
    description: str | None = None
    seed: int | None = None
    mode: Mode = Mode.WIRE
    transfers: tuple[TransferResult, ...] = ()
    containers: tuple[ContainerResult, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    reconciliation: Reconciliation = Reconciliation()
    error: RegsimError | None = None
    interrupted: bool = False

    @property
    def summary(self) -> Summary:
        """The sums over all transfers."""
        return sum((transfer.summary for transfer in self.transfers), EMPTY)

    @property
    def errors(self) -> tuple[RegsimError, ...]:
        """What went wrong and was not expected: what stopped the run, then what failed a transfer."""
        unexpected = (
            transfer.ledger.error
            for transfer in self.transfers
            if transfer.ledger.error is not None and not transfer.expected_error
        )
        of_containers = (each.error for each in self.containers if not each.expected_error)
        return (*filter(None, [self.error]), *unexpected, *filter(None, of_containers))

    @property
    def exit_code(self) -> ExitCode:
        """The worst of everything that went wrong (DESIGN 7)."""
        codes = [error.exit_code for error in self.errors]
        if self.interrupted:
            codes.append(ExitCode.INTERRUPTED)
        if self.reconciliation.matched is False:
            codes.append(ExitCode.CONTENT)
        if not all(check.passed for check in self.checks):
            codes.append(ExitCode.CHECK_FAILED)
        return worst(*codes)

    def to_json(self) -> dict[str, Any]:
        """Return the result under the keys of the result format."""
        return {
            "schema_version": SCHEMA_VERSION,
            "scenario": self.scenario,
            "description": self.description,
            "seed": self.seed,
            "mode": str(self.mode),
            "summary": self.summary.to_json(),
            "transfers": [transfer.to_json(self.mode) for transfer in self.transfers],
            "containers": [container.to_json() for container in self.containers],
            "checks": [check.to_json() for check in self.checks],
            "reconciliation": self.reconciliation.to_json(),
            "error": error_document(self.error),
            "interrupted": self.interrupted,
        }


def error_document(error: RegsimError | None) -> dict[str, Any] | None:
    """Return an error under the keys of the result format."""
    if error is None:
        return None
    return {"message": error.message, "hint": error.hint, "exit_code": int(error.exit_code)}
