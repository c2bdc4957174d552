"""The options of ``python -m mock_registry`` that make it behave otherwise than it should.

Owns their names and their help.
"""

import argparse

from .fault import Fault
from .parsing import parse_line
from .profiles import NAMES


def add_behaviour_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    group = parser.add_argument_group("behaviour")
    group.add_argument("--profile", choices=NAMES, help="the ways of a named registry (default: none)")
    group.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="WORDS",
        help="misbehave: '[METHOD] [ROUTE] [CONDITION=VALUE…] EFFECT [VALUE] [ATTRIBUTE=VALUE…]', such as "
        "'PATCH upload nth=2 reset after=100kB' or 'GET blob toxicity=0.1 status 503'; once for each",
    )
    group.add_argument(
        "--warning",
        action="append",
        default=[],
        metavar="TEXT",
        help="say this in a Warning header of every answer; once for each",
    )
    group.add_argument(
        "--namespace",
        action="append",
        default=[],
        metavar="HOST[=PREFIX]",
        help="stand in for this host, as a proxy does: pulls with ?ns=HOST are answered from the "
        "repositories below the prefix; once for each",
    )
    group.add_argument(
        "--seed", type=int, default=0, help="from which chance in faults follows (default: %(default)s)"
    )


def namespaces_from_options(options: argparse.Namespace) -> dict[str, str]:
    """Return the hosts that the options stand in for, with their prefixes."""
    parts = [text.partition("=") for text in options.namespace]
    return {host: prefix for host, _, prefix in parts}


def faults_from_options(options: argparse.Namespace) -> list[Fault]:
    """Return the faults that the options ask for.

    Raises:
        FaultError: Words are no fault.
    """
    return [parse_line(line) for line in options.fault]
