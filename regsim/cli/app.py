"""The command line: its commands, and what becomes of errors.

Owns the exit codes' way to the shell. Each command lives in a module of its own that is only imported when
it is run or helped with, so that `regsim --help` costs an interpreter and a parser.
"""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError

from regsim._version import __version__
from regsim.cli.output import complain, show, silence, status
from regsim.errors import ExitCode, RegsimError

if TYPE_CHECKING:
    from collections.abc import Sequence

_EPILOGUE = (
    "Exit codes: 0 all well, 1 a check failed, 2 usage or scenario invalid (nothing ran), 3 the registry "
    "refused or lacks it, 4 the network gave up, 5 content or accounts wrong, 6 local files, 70 a bug of "
    "ours, 130 interrupted (the partial ledger is kept)."
)

# Said here once more, so that listing the commands does not import them.
_COMMANDS = {
    "run": "Run scenarios: say what moved, what was saved, and whether the registry agrees.",
    "push": "Push an image to a registry and say what moved.",
    "pull": "Pull an image from a registry and say what moved.",
    "copy": "Copy an image between registries and layouts and say what moved.",
    "inspect": "Tell what an image is: digest, platforms, date, labels, layers with their sizes.",
    "build": "Build an image from a Dockerfile, without any engine.",
    "layers": "List the layers of an image, base first: digest, size, created by.",
    "referrers": "List what refers to an image, such as signatures: digest, size, artifact type.",
    "history": "Print an image's history as docker does, with what travels of each layer and who shares it.",
    "tree": "List an image's files, the layer that each comes from, and bytes wasted by later layers.",
    "manifest": "Print a manifest or index, byte for byte, once its digest is verified.",
    "config": "Print an image's config, byte for byte, once its digest is verified.",
    "ls": "List all tags of a repository, one a line.",
    "catalog": "List all repositories of a registry, one a line, where it offers a catalog.",
    "tag": "Give an image another tag in the same repository, without moving a layer.",
    "delete": "Delete a tag, or by digest an image with all its tags.",
    "doctor": "Look at this machine, and test a push and a pull on it, without leaving it.",
    "df": "Tell what each stored image takes, shares with others, and would free.",
    "rmi": "Remove stored images and free what no other image holds.",
    "prune": "Free what no stored image holds: replaced images, leavings of interrupted pulls.",
    "serve": "Serve an empty registry until interrupted.",
    "schema": "Print the JSON Schema of scenario files, for editors.",
}
_MODULES = {
    **dict.fromkeys(("push", "pull", "copy"), "transfer"),
    **dict.fromkeys(("inspect", "manifest", "config", "layers", "referrers"), "documents"),
    **dict.fromkeys(("history", "tree"), "history"),
    **dict.fromkeys(("ls", "catalog", "tag", "delete", "df", "rmi", "prune"), "housekeeping"),
}


def build() -> App:
    """Return the application with all its commands."""
    app = App(
        name="regsim",
        help="Tells exactly which layers a push or pull moves, which it skips, why, and what sharing saved.",
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
    """Run one command and return its exit code; nothing but a bug of ours shows a traceback.

    Args:
        arguments: of the command line; None takes the process's.
    """
    try:
        return int(build()(arguments) or ExitCode.OK)
    except CycloptsError as error:
        command = " ".join(("regsim", *(error.command_chain or ())))
        complain(" ".join(str(error).split()), f"{command} --help tells what there is")
        return ExitCode.USAGE
    except RegsimError as error:
        show(error)
        return error.exit_code
    except KeyboardInterrupt:
        status("interrupted")
        return ExitCode.INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # Whoever read the help has had enough, as `| head` does; rich, which prints it, exits over that.
        silence(sys.stdout)
        return ExitCode.OK
    except Exception:  # noqa: BLE001  (the last resort: whatever it is, the exit code must say so)
        complain("a bug in regsim; please report it with what follows")
        traceback.print_exc()
        return ExitCode.BUG
