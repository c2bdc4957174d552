"""The JSON report: a result as the contract writes it (DESIGN 6)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regsim.core.result import RunResult


def render(results: Sequence[RunResult], *, several: bool | None = None) -> str:
    """Return one result as an object, several as an array, ending in a newline.

    Args:
        results: what is written.
        several: whether there were to be several, of which an interrupt may have left one; None counts.
    """
    documents = [result.to_json() for result in results]
    array = len(documents) != 1 if several is None else several
    return json.dumps(documents if array else documents[0], indent=2) + "\n"
