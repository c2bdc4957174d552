"""`regsim schema`: the JSON Schema of scenario files."""

from __future__ import annotations

from regsim.cli.output import Output, check_outputs, write_json
from regsim.scenario.schema import json_schema


def schema(*, output: Output = None) -> None:
    """Print the JSON Schema of scenario files, for editors.

    Args:
        output: print to this file instead.
    """
    check_outputs(output)
    write_json(json_schema(), output)
