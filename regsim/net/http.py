"""httpx, without its command line. Imported from here alone."""

from __future__ import annotations

import sys
from types import ModuleType

if "httpx" not in sys.modules:
    # httpx imports its own command line (click, rich, pygments: 45 ms) wherever click is installed.
    # A stand-in keeps it out; httpx.main, the only thing that is lost, is never called from here.
    sys.modules["httpx._main"] = ModuleType("httpx._main")
    sys.modules["httpx._main"].main = lambda: None  # type: ignore[attr-defined]
    import httpx

    del sys.modules["httpx._main"]
else:
    import httpx

__all__ = ["httpx"]
