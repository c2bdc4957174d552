"""Lists that come page by page: the tags of a repository (distribution-spec, end-8), a registry's catalog.

Owns paging and its bounds: a list is metadata, and never endless.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from regsim.errors import RegistryError
from regsim.net.address import origin, resolve
from regsim.registry.answer import refusal
from regsim.registry.login.challenge import CATALOG, Need

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from regsim.core.account import Account
    from regsim.registry.answer import Answer
    from regsim.registry.requests import Host, Requests

MAX_PAGE = 4 * 1024 * 1024  # bytes
MAX_PAGES = 1000
MAX_LIST = 64 * 1024 * 1024  # bytes of all pages together: a million names
# distribution's registry lists 100 repositories by default, and 1000 at most.
_CATALOG_TARGET = "/v2/_catalog?n=1000"

# Some leave out the brackets (distribution-spec#116), or the quotes.
_NEXT = re.compile(
    r"(?:<(?P<url>[^<>]*)>[^,<>]*|(?:^|,)\s*(?P<bare>[^\s<>,;]++)[^,<>]*);\s*rel=\"?next\"?", re.IGNORECASE
)


async def tags(repository: Requests, account: Account) -> tuple[str, ...]:
    """Return all tags, in the registry's order (end-8).

    Raises:
        NotFoundError: the registry does not know the repository.
    """

    async def ask(target: str) -> Answer:
        return await repository.ask("GET", target, account, limit=MAX_PAGE)

    # The page size is left to the registry: ECR refuses more than 1000, docker's 2.8 ignores it.
    what = f"the tags of {repository.name}"
    return await _listed(ask, f"/v2/{repository.name}/tags/list", "tags", what)


async def catalog(registry: Host, account: Account) -> tuple[str, ...]:
    """Return the names of all repositories, in the registry's order.

    The specification does not know it; distribution, zot, harbor and others have it all the same.

    Raises:
        RegistryError: the registry has no catalog, or does not show it.
    """
    transport, need = registry.transport, Need(scopes=(CATALOG,))

    async def ask(target: str) -> Answer:
        return await registry.patience.ask(
            lambda: transport.send("GET", target, account, limit=MAX_PAGE, need=need), account
        )

    return await _listed(ask, _CATALOG_TARGET, "repositories", f"the catalog of {transport.host}")


async def _listed(
    ask: Callable[[str], Awaitable[Answer]], target: str, key: str, what: str
) -> tuple[str, ...]:
    found: list[str] = []
    async for answer in pages(ask, target, what):
        if answer.status != HTTPStatus.OK:
            raise refusal(answer)
        found += _page(answer, key, what)
    return tuple(found)


async def pages(
    ask: Callable[[str], Awaitable[Answer]], target: str, what: str
) -> AsyncGenerator[Answer, None]:
    """Yield the pages of a list, from `target` on, as long as each names the next one.

    Raises:
        RegistryError: the next one is said to be at another host, there are too many, or they are larger than
            `MAX_LIST` bytes together.
    """
    octets = 0
    for _ in range(MAX_PAGES):
        answer = await ask(target)
        octets += len(answer.body)
        if octets > MAX_LIST:
            raise RegistryError(f"{what}: their list is larger than {MAX_LIST} bytes")
        yield answer
        page = following(answer, what)
        if page is None:
            return
        target = page
    raise RegistryError(f"{what}: there is no end to them within {MAX_PAGES} pages")


def _page(answer: Answer, key: str, what: str) -> list[str]:
    if not answer.whole:
        raise RegistryError(f"a page of {what} is larger than {MAX_PAGE} bytes")
    try:
        # A repository without tags answers null (docker's registry) or an empty list.
        listed = json.loads(answer.body)[key] or []
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise RegistryError(f"{what}: the answer is something else") from error
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise RegistryError(f"{what}: the answer is something else")
    return listed


def following(answer: Answer, what: str) -> str | None:
    """Return the URL of the next page of a list; None after the last one.

    Raises:
        RegistryError: it is said to be at another host.
    """
    match = _NEXT.search(answer.headers.get("Link", ""))
    if match is None:
        return None
    url = resolve(answer.url, match["url"] or match["bare"])
    if origin(url) != origin(answer.url):
        raise RegistryError(f"the next page of {what} is said to be at another host")
    return url
