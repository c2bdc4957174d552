"""`python -m regsim`, and the console script."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line and return its exit code."""
    from regsim.cli.app import main as run  # noqa: PLC0415  (importing this module does no work)

    return run()


if __name__ == "__main__":
    sys.exit(main())
