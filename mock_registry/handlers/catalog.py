"""Listing repositories: no part of the specification, but every registry has it."""

from mock_registry.exchange import Exchange, Response
from mock_registry.service import Service

from .pages import page, with_document


async def get_catalog(service: Service, exchange: Exchange) -> Response:
    """List the repositories that hold or held content, and that whoever asks may read."""
    names, response = page(exchange, filter(exchange.access.sees, service.state.repositories))
    return with_document(response, {"repositories": names})
