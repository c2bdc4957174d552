"""The JSON report: a result as the contract writes it (DESIGN 6)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regsim.result import RunResult


def render(results: Sequence[RunResult]) -> str:
    """Return one result as an object, several as an array, ending in a newline."""
    documents = [result.to_json() for result in results]
    return json.dumps(documents[0] if len(documents) == 1 else documents, indent=2) + "\n"
