"""Every error that regsim raises on purpose, each with a hint and an exit code.

Owns the tree below and the order in which exit codes win. Must not know any other room:
foreign exceptions are translated where they enter (`net.errors`, `store.files`), never here.

    RegsimError
    ├── UsageError            2   the command line or an argument is wrong; nothing ran
    │   ├── InvalidReferenceError 2  a reference, digest, tag or address does not parse
    │   └── InvalidFileError  2   carries every problem of a file at once
    │       ├── DockerfileError   2  a Dockerfile is invalid
    │       └── ScenarioError     2  a scenario is invalid
    ├── RegistryError         3   the registry refused, or answered what no registry may answer
    │   ├── NotFoundError     3   the registry (or the store) lacks what was requested
    │   └── AuthenticationError 3 credentials are missing, or were not accepted
    ├── NetworkError          4   no answer: refused, reset, cut, timed out
    ├── ContentError          5   bytes are not what their descriptor says
    ├── AccountsError         5   a law of the ledger is broken, or the journal disagrees
    └── LocalFileError        6   missing, unreadable, unwritable, disk full
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """What the process tells its caller. The values are contract (DESIGN 7)."""

    OK = 0
    CHECK_FAILED = 1
    USAGE = 2
    REGISTRY = 3
    NETWORK = 4
    CONTENT = 5
    LOCAL_FILES = 6
    BUG = 70
    INTERRUPTED = 130


_SEVERITY = (
    ExitCode.INTERRUPTED,
    ExitCode.BUG,
    ExitCode.CONTENT,
    ExitCode.LOCAL_FILES,
    ExitCode.REGISTRY,
    ExitCode.NETWORK,
    ExitCode.CHECK_FAILED,
    ExitCode.USAGE,
    ExitCode.OK,
)


def worst(*codes: ExitCode) -> ExitCode:
    """Return the code that wins when several apply; `OK` when there is none."""
    return min(codes, key=_SEVERITY.index, default=ExitCode.OK)


class RegsimError(Exception):
    """Base of all errors that a user can cause or meet.

    Args:
        message: one plain sentence that names the thing.
        hint: what to try next; may be empty.
    """

    exit_code = ExitCode.BUG

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(RegsimError):
    """The command line or an argument is wrong; nothing ran."""

    exit_code = ExitCode.USAGE


class InvalidReferenceError(UsageError):
    """A reference, repository name, tag, digest or address does not follow its grammar."""


class InvalidFileError(UsageError):
    """A file that says what to do is invalid.

    Args:
        problems: one line each, `FILE:LINE…: what … hint`, in file order.
    """

    def __init__(self, problems: list[str], *, hint: str = "") -> None:
        super().__init__("\n".join(problems), hint=hint)
        self.problems = problems


class DockerfileError(InvalidFileError):
    """A Dockerfile is invalid: `Dockerfile:LINE: what — hint`."""


class ScenarioError(InvalidFileError):
    """A scenario is invalid: `file:line:column: what … did you mean …`."""


class RegistryError(RegsimError):
    """A registry refused a request or broke the protocol.

    Args:
        message: what was asked and what came back.
        status: HTTP status of the answer, if there was one.
        codes: error codes of the answer's body (`BLOB_UNKNOWN`, …), unknown ones included.
    """

    exit_code = ExitCode.REGISTRY

    def __init__(
        self, message: str, *, hint: str = "", status: int | None = None, codes: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.codes = codes


class NotFoundError(RegistryError):
    """The registry or store answered that it does not hold what was requested."""


class AuthenticationError(RegistryError):
    """The registry, or its token service, wants credentials that there are not, or did not accept them."""


class Trouble(StrEnum):
    """What a network did instead of carrying an answer, as ledgers print it."""

    CONNECT = "no-connection"
    CUT = "cut"
    RESET = "reset"
    STALL = "stall"
    SLOW = "too-slow"
    DEADLINE = "deadline"


class NetworkError(RegsimError):
    """A request got no whole answer: refused, reset, cut short or timed out.

    Args:
        message: one plain sentence that names the thing.
        hint: what to try next; may be empty.
        trouble: which of these it was.
    """

    exit_code = ExitCode.NETWORK

    def __init__(self, message: str, *, hint: str = "", trouble: Trouble = Trouble.CUT) -> None:
        super().__init__(message, hint=hint)
        self.trouble = trouble


class ContentError(RegsimError):
    """Bytes, a size or a document are not what their descriptor says."""

    exit_code = ExitCode.CONTENT


class AccountsError(RegsimError):
    """A law of the ledger does not hold, or ledger and journal disagree."""

    exit_code = ExitCode.CONTENT


class LocalFileError(RegsimError):
    """A local file is missing, unreadable, or could not be written whole."""

    exit_code = ExitCode.LOCAL_FILES


def cancellation() -> type[BaseException]:
    """Return what ends work that is cancelled; asyncio is imported only then, since the model needs none."""
    from asyncio import CancelledError  # noqa: PLC0415  (as above)

    return CancelledError
