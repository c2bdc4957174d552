"""Handing out tokens: no part of the specification, but most registries have a service for it."""

from mock_registry.exchange import Exchange, Refusal, Response
from mock_registry.service import Service
from mock_registry.spec import ErrorCode, Fault


async def answer_token(service: Service, exchange: Exchange) -> Response:
    """Hand out a token, where this registry knows any."""
    if service.auth is None:
        raise Refusal(404, Fault(ErrorCode.UNSUPPORTED, "this registry has no token service"))
    return await service.auth.answer_token(exchange)
