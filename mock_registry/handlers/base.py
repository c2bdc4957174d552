"""Determining support (end-1)."""

from mock_registry.exchange import Exchange, Response
from mock_registry.service import Service


async def get_base(service: Service, exchange: Exchange) -> Response:  # noqa: ARG001 (a handler)
    """Answer that this is a registry (end-1)."""
    # The version header is older than the specification; docker looks for it.
    headers = [
        (b"content-type", b"application/json"),
        (b"docker-distribution-api-version", b"registry/2.0"),
    ]
    return Response(200, headers, b"{}")
