"""Conditional requests and content negotiation, as RFC 9110 reads their headers."""


def matches(if_none_match: str | None, etag: str) -> bool:
    """Tell whether an If-None-Match header names the entity, so that it need not be sent again."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags


def accepts(accept: str | None, media_type: str) -> bool:
    """Tell whether an Accept header, all its lines joined, takes the media type. Absent, it takes all."""
    if accept is None or not accept.strip():
        return True
    kind = media_type.partition("/")[0]
    return any(_range(part) in (media_type, f"{kind}/*", "*/*") for part in accept.split(","))


def _range(part: str) -> str:
    """Return the media range of one element, or nothing if its weight is 0."""
    media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weights = [parameter[2:] for parameter in parameters if parameter.startswith("q=")]
    return "" if weights and not weights[0].strip("0.") else media_range
