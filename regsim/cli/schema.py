"""`regsim schema`: the JSON Schema of scenario files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from regsim.cli.output import check_outputs, write


def schema(*, output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None) -> None:
    """Print the JSON Schema of scenario files, for editors.

    Args:
        output: write it to this file instead.
    """
    check_outputs(output)
    from regsim.scenario.schema import json_schema  # noqa: PLC0415  (helping needs no schema)

    write(json.dumps(json_schema(), indent=2) + "\n", output)
