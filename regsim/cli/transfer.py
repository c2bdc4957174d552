"""`regsim push`, `pull` and `copy`: one transfer with its ledger."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from regsim.cli.addresses import Address, Layout, parse, parse_destination
from regsim.cli.output import Format, check_outputs
from regsim.cli.verdict import Wanted, conclude, failing
from regsim.errors import ExitCode, UsageError
from regsim.oci import Reference
from regsim.result import Mode


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Flags:
    """What push, pull and copy have in common.

    Attributes:
        dry_run: ask everything, write nothing, and report what would move.
        jobs: blobs moved at the same time.
        format: how the ledger is printed.
        output: print the ledger to this file instead.
        plain_http: speak plain HTTP to a registry that is not on this machine.
        tls_verify: check the registry's certificate.
        quiet: print nothing but the ledger and errors.
    """

    dry_run: Annotated[bool, Parameter(negative=())] = False
    jobs: Annotated[int, Parameter(name=("--jobs", "-j"))] = 6
    format: Format = Format.TEXT
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None
    plain_http: Annotated[bool, Parameter(negative=())] = False
    tls_verify: bool = True
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative=())] = False

    @property
    def mode(self) -> Mode:
        """Whether anything moves."""
        return Mode.PLAN if self.dry_run else Mode.WIRE

    @property
    def wanted(self) -> Wanted:
        """How the ledger is wanted."""
        return Wanted(form=self.format, output=self.output)

    def check(self) -> None:
        """Check what can be judged before anything runs.

        Raises:
            UsageError, LocalFileError: it cannot run so.
        """
        if self.jobs < 1:
            raise UsageError(f"--jobs {self.jobs} moves nothing", hint="1 or more")
        check_outputs(self.output)


def push(src: str, ref: str, /, *, flags: Flags | None = None) -> ExitCode:
    """Push an image to a registry and say what moved.

    Args:
        src: oci:DIR[:TAG].
        ref: HOST[:PORT]/NAME[:TAG].
        flags: see below.
    """
    flags = flags or Flags()
    with failing(flags.wanted, flags.mode):
        source, destination = parse(src), parse_destination(ref)
        if isinstance(source, Reference):
            raise UsageError(
                f"push takes a local image: {src!r}", hint="write oci:DIR[:TAG], or use regsim copy"
            )
        if isinstance(destination, Layout):
            raise UsageError(
                f"push goes to a registry: {ref!r}", hint="write HOST/NAME:TAG, or use regsim copy"
            )
        flags.check()
    return _move(source, destination, flags)


def pull(ref: str, dst: str | None = None, /, *, flags: Flags | None = None) -> ExitCode:
    """Pull an image from a registry and say what moved.

    Args:
        ref: HOST[:PORT]/NAME[:TAG][@DIGEST].
        dst: oci:DIR[:TAG]; the local store if left out.
        flags: see below.
    """
    flags = flags or Flags()
    with failing(flags.wanted, flags.mode):
        source = parse(ref)
        if isinstance(source, Layout):
            raise UsageError(f"pull takes an image of a registry: {ref!r}", hint="write HOST/NAME:TAG")
        destination = parse_destination(dst) if dst is not None else Layout(local_store(), str(source))
        if isinstance(destination, Reference):
            raise UsageError(
                f"pull goes to this machine: {dst!r}", hint="write oci:DIR[:TAG], or use regsim copy"
            )
        flags.check()
    return _move(source, destination, flags)


def copy(src: str, dst: str, /, *, flags: Flags | None = None) -> ExitCode:
    """Copy an image between registries and layouts and say what moved.

    Args:
        src: HOST[:PORT]/NAME[:TAG][@DIGEST] or oci:DIR[:TAG].
        dst: HOST[:PORT]/NAME[:TAG] or oci:DIR[:TAG].
        flags: see below.
    """
    flags = flags or Flags()
    with failing(flags.wanted, flags.mode):
        source, destination = parse(src), parse_destination(dst)
        flags.check()
    return _move(source, destination, flags)


def local_store() -> Path:
    """Return the layout that keeps pulled images: `$XDG_DATA_HOME/regsim/store`."""
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The base directory specification has relative paths ignored.
    base = data if data.is_absolute() else Path.home() / ".local" / "share"
    return base / "regsim" / "store"


def _move(source: Address, destination: Address, flags: Flags) -> ExitCode:
    from regsim.cli.moving import move  # noqa: PLC0415  (parsing and helping need no HTTP client)
    from regsim.cli.running import run  # noqa: PLC0415  (likewise)

    return conclude([run(move(source, destination, flags))], flags.wanted)
