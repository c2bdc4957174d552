"""The endpoints of the specification: one module for each of its sections, and the table of them.

Handlers know the state and one exchange. They must not know servers, transports or the journal.
"""

from mock_registry.exchange import Exchange, Refusal
from mock_registry.journal import Route
from mock_registry.page import get_page
from mock_registry.service import Handler
from mock_registry.spec import ErrorCode, Fault

from .blobs import delete_blob, get_blob
from .discovery import answer_token, get_base, get_catalog, get_referrers, get_tags
from .manifests import delete_manifest, get_manifest, put_manifest
from .uploads import delete_upload, get_upload, patch_upload, post_upload, put_upload

TABLE: dict[Route, dict[str, Handler]] = {
    Route.BASE: {"GET": get_base, "HEAD": get_base},
    Route.BLOB: {"GET": get_blob, "HEAD": get_blob, "DELETE": delete_blob},
    Route.CATALOG: {"GET": get_catalog, "HEAD": get_catalog},
    Route.MANIFEST: {
        "GET": get_manifest,
        "HEAD": get_manifest,
        "PUT": put_manifest,
        "DELETE": delete_manifest,
    },
    Route.OTHER: {},
    Route.PAGE: {"GET": get_page, "HEAD": get_page},
    Route.REFERRERS: {"GET": get_referrers, "HEAD": get_referrers},
    Route.TAGS: {"GET": get_tags, "HEAD": get_tags},
    Route.TOKEN: {"GET": answer_token, "POST": answer_token},
    Route.UPLOAD: {
        "GET": get_upload,
        "HEAD": get_upload,
        "PATCH": patch_upload,
        "PUT": put_upload,
        "DELETE": delete_upload,
    },
    Route.UPLOADS: {"POST": post_upload},
}


def find_handler(exchange: Exchange, *, read_only: bool) -> Handler:
    """Return the handler of the exchange's route and method.

    Raises:
        Refusal: 404 without a route, 400 for a bad name, 405 for another method.
    """
    methods = TABLE[exchange.address.route]
    served = methods
    if read_only and exchange.address.route is not Route.TOKEN:
        served = {method: handler for method, handler in methods.items() if method in ("GET", "HEAD")}
    handler = served.get(exchange.method)
    if not exchange.address.valid:
        raise Refusal(400, Fault(ErrorCode.NAME_INVALID, "not a repository name", exchange.address.name))
    if handler is not None:
        return handler
    if not methods:
        raise Refusal(404, Fault(ErrorCode.UNSUPPORTED, "no endpoint of a registry"))
    allow = [(b"allow", ", ".join(served).encode())]
    known = exchange.method in methods
    message = "the registry is read-only" if known else f"not a method of this endpoint: {exchange.method}"
    raise Refusal(405, Fault(ErrorCode.UNSUPPORTED, message), headers=allow)
