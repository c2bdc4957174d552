"""What a transfer tells while it runs, for progress displays. Nothing in the ledger depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.oci import Descriptor


class Moment(StrEnum):
    """The moments in the life of one action."""

    STARTED = "started"
    COMPLETED = "completed"
    FAILED = "failed"


class Step(StrEnum):
    """What an action does, as progress displays print it."""

    CHECK_MANIFEST = "check-manifest"
    FETCH_MANIFEST = "fetch-manifest"
    CHECK_BLOB = "check-blob"
    MOUNT = "mount"
    UPLOAD = "upload"
    DOWNLOAD = "download"
    PUT_MANIFEST = "put-manifest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One moment of one action on one piece of content."""

    step: Step
    moment: Moment
    descriptor: Descriptor


if TYPE_CHECKING:
    Listener = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Listen to nothing."""
