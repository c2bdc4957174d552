"""Listing tags (end-8a, end-8b)."""

from mock_registry.exchange import Exchange, Refusal, Response
from mock_registry.service import Service
from mock_registry.spec import ErrorCode, Fault

from .pages import page, with_document


async def get_tags(service: Service, exchange: Exchange) -> Response:
    """List the tags of a repository; one that holds blobs alone has none."""
    repository = service.state.repository(exchange.repository)
    if repository is None:
        raise Refusal(404, Fault(ErrorCode.NAME_UNKNOWN, "there is no such repository", exchange.repository))
    tags, response = page(exchange, repository.tags)
    return with_document(response, {"name": exchange.address.name, "tags": tags})
