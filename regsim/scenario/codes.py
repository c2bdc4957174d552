"""Error codes that a step may be expected to fail with.

Owns the list of known codes (distribution-spec, "Error Codes", and those that registries add), which serves
hints only: any word of the right shape is a code. Must not know what the codes mean.
"""

from __future__ import annotations

import difflib
import re

from regsim.core.suggest import closest
from regsim.errors import UsageError

ERROR_CODE_PATTERN = "[A-Z][A-Z0-9_]*"

KNOWN_CODES = (
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DENIED",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "MANIFEST_UNVERIFIED",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "PAGINATION_NUMBER_INVALID",
    "RANGE_INVALID",
    "SIZE_INVALID",
    "TAG_INVALID",
    "TOOMANYREQUESTS",
    "UNAUTHORIZED",
    "UNKNOWN",
    "UNSUPPORTED",
)

# Codes that registries invent look less alike than a code and its misspelling.
_MISSPELT = 0.9


def parse_error_code(text: str) -> str:
    """Return an error code.

    Raises:
        UsageError: it has not the shape of one, or is a known one misspelt.
    """
    match = closest(text, KNOWN_CODES)
    hint = f'did you mean "{match}"?' if match else "such as MANIFEST_UNKNOWN"
    if re.fullmatch(ERROR_CODE_PATTERN, text) is None:
        raise UsageError(f'not an error code: "{text[:60]}"', hint=hint)
    if match and match != text and difflib.SequenceMatcher(None, match, text).ratio() >= _MISSPELT:
        raise UsageError(f'no such error code: "{text[:60]}"', hint=hint)
    return text
