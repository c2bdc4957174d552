"""The options of ``python -m mock_registry`` about who may do what.

Owns their names and their help.
"""

import argparse

from .base import Auth
from .words import MODES, auth_from_words


def add_auth_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    group = parser.add_argument_group("who may do what")
    group.add_argument(
        "--auth", choices=MODES, default="none", help="how clients log in (default: %(default)s)"
    )
    group.add_argument(
        "--user",
        action="append",
        default=[],
        metavar="NAME:PASSWORD",
        help="one who can log in; once for each. Everybody on this machine can read a command line",
    )
    group.add_argument("--htpasswd", metavar="FILE", help="those who can log in, with bcrypt hashes")
    group.add_argument(
        "--right",
        action="append",
        default=[],
        metavar="WHO=REPOSITORIES:ACTIONS",
        help="what someone may do, such as 'ci=shop/**:pull,push'; no WHO is everyone, * all who log in "
        "(default: all who log in may do everything)",
    )
    group.add_argument("--anonymous-pull", action="store_true", help="everyone may pull everything")
    group.add_argument("--read-only", action="store_true", help="nobody may change anything (405)")


def auth_from_options(options: argparse.Namespace) -> Auth | None:
    """Return what the options ask for.

    Raises:
        MissingPackageError: An htpasswd file needs a package that is not installed.
        OSError: The htpasswd file cannot be read.
        ValueError: The options make no sense, or not together.
    """
    return auth_from_words(
        options.auth,
        users=options.user,
        htpasswd=options.htpasswd,
        rights=options.right,
        anonymous_pull=options.anonymous_pull,
    )
