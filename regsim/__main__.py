"""`python -m regsim`, and the console script."""

from __future__ import annotations

import gc
import sys


def main() -> int:
    """Run the command line and return its exit code. For a process of its own."""
    # What a start makes is code, which stays: to look for garbage in it takes 13 ms. `cli.running` goes on.
    gc.disable()
    from regsim.cli.app import main as run  # noqa: PLC0415  (importing this module does no work)

    try:
        return run()
    finally:
        # What is left goes with the process, and need not be taken apart before, which takes 20 ms.
        gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
