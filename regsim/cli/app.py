"""The command line: its commands, and the exit code and words of each error.

A command's module is imported only when the command is run or its help is printed.
"""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError

from regsim._version import __version__
from regsim.cli.output import complain, show, silence, status
from regsim.errors import ExitCode, RegsimError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_EPILOGUE = (
    "Exit codes: 0 success, 1 a check failed, 2 usage or scenario invalid (nothing was run), 3 the registry "
    "refused or lacks it, 4 network failure, 5 content or accounts wrong, 6 local files, 70 a bug in regsim, "
    "130 interrupted (the partial ledger is kept)."
)

# Each command's summary again, so that listing the commands does not import them.
_COMMANDS = {
    "run": "Run scenarios: print what moved, what was saved, and whether the registry's journal agrees.",
    "check": "Check scenario files without running them: print every mistake, with its line and column.",
    "push": "Push an image to a registry and print which layers moved.",
    "pull": "Pull an image from a registry and print which layers moved.",
    "copy": "Copy an image between registries, layouts and archives and print which layers moved.",
    "inspect": "Print an image's digest, platforms, date, labels, and layers with their sizes.",
    "build": "Build an image from a Dockerfile without an engine; RUN commands are declared, not run.",
    "layers": "List the layers of an image, base first: digest, size, created by.",
    "referrers": "List what refers to an image, such as signatures: digest, size, artifact type.",
    "history": "Print an image's history as docker does, with each layer's compressed size and sharing.",
    "tree": "List an image's files, the layer that each comes from, and bytes wasted by later layers.",
    "manifest": "Print a manifest or index, byte for byte, after verifying its digest.",
    "config": "Print an image's config, byte for byte, after verifying its digest.",
    "ls": "List all tags of a repository, one per line.",
    "catalog": "List all repositories of a registry, one per line, if it offers a catalog.",
    "tag": "Give an image another tag in the same repository, without moving a layer.",
    "delete": "Delete a tag, or an image by its digest.",
    "doctor": "Check this machine, and test a push and a pull on loopback.",
    "df": "Print the disk space that each stored image takes, shares with others, and would free.",
    "rmi": "Remove stored images and free what no other image holds.",
    "prune": "Free what no stored image holds: replaced images, and what interrupted pulls left.",
    "serve": "Serve an empty registry until interrupted.",
    "schema": "Print the JSON Schema of scenario files, for editors.",
}
_MODULES = {
    "check": "run",
    **dict.fromkeys(("push", "pull", "copy"), "transfer"),
    **dict.fromkeys(("inspect", "manifest", "config", "layers", "referrers"), "documents"),
    **dict.fromkeys(("history", "tree"), "history"),
    **dict.fromkeys(("ls", "catalog", "tag", "delete", "df", "rmi", "prune"), "housekeeping"),
}


def build() -> App:
    """Return the application with all its commands."""
    app = App(
        name="regsim",
        help="Prints exactly which layers a push or pull moves, which it skips, why, and what sharing saved.",
        help_epilogue=_EPILOGUE,
        help_format="plaintext",
        sort_key=None,
        version=__version__,
        result_action="return_value",
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
    )
    for name, summary in _COMMANDS.items():
        app.command(f"regsim.cli.{_MODULES.get(name, name)}:{name}", name=name, help=summary)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; only a bug in regsim prints a traceback.

    Args:
        arguments: of the command line; None takes the process's.
    """
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        _check_command(words)
        return int(build()(words) or ExitCode.OK)
    except CycloptsError as error:
        command = " ".join(("regsim", *(error.command_chain or ())))
        complain(" ".join(str(error).split()), f"see {command} --help")
        return ExitCode.USAGE
    except RegsimError as error:
        show(error)
        return error.exit_code
    except KeyboardInterrupt:
        status("interrupted")
        return ExitCode.INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # The reader of the help closed the pipe, as `| head` does; rich, which prints it, then exits.
        silence(sys.stdout)
        return ExitCode.OK
    except Exception:  # noqa: BLE001  (the last resort: the exit code must say so)
        complain("a bug in regsim; please report it with what follows")
        traceback.print_exc()
        return ExitCode.BUG


def _check_command(words: Sequence[str]) -> None:
    """Refuse an unknown command, which cyclopts would do only after importing all commands.

    Raises:
        UsageError: there is no such command.
    """
    if words and not words[0].startswith("-") and words[0] not in _COMMANDS:
        from regsim.core.suggest import did_you_mean  # noqa: PLC0415  (--help suggests nothing)

        raise UsageError(f"unknown command {words[0]!r:.80}", hint=did_you_mean(words[0], _COMMANDS))
