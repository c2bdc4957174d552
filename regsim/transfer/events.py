"""What a transfer tells while it runs, for progress displays. Nothing in the ledger depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.core import Descriptor


class Moment(StrEnum):
    """The moments in the life of one action. Only uploads and downloads have `PROGRESS`."""

    STARTED = "started"
    PROGRESS = "progress"
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
    """One moment of one action on one piece of content.

    Attributes:
        descriptor: of the content; its `size` is in bytes.
        moved: bytes of an upload or download that went over the wire so far. Above the size where some of
            them had to go again; 0 until it completes where neither end is a registry.
        found: of a completed check or mount: whether the destination has the content now; else None.
    """

    step: Step
    moment: Moment
    descriptor: Descriptor
    moved: int = 0
    found: bool | None = None


if TYPE_CHECKING:
    Listener = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Listen to nothing."""
