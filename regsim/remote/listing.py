"""The tags of a repository, page by page (distribution-spec, end-8).

Owns paging and its bounds: a list is metadata, and never endless.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from regsim.errors import RegistryError
from regsim.remote.address import origin, resolve
from regsim.remote.answer import refusal

if TYPE_CHECKING:
    from regsim.remote.account import Account
    from regsim.remote.answer import Answer
    from regsim.remote.conversation import Conversation

MAX_PAGE = 4 * 1024 * 1024  # bytes
MAX_PAGES = 1000

_NEXT = re.compile(r"<(?P<url>[^<>]*)>[^,<>]*;\s*rel=\"?next\"?", re.IGNORECASE)


async def tags(conversation: Conversation, account: Account) -> tuple[str, ...]:
    """Return all tags; see `Repository.tags`."""
    found: list[str] = []
    target = conversation.tags
    # The page size is left to the registry: ECR refuses more than 1000, docker's 2.8 ignores it.
    for _ in range(MAX_PAGES):
        answer = await conversation.ask("GET", target, account, limit=MAX_PAGE)
        if answer.status != HTTPStatus.OK:
            raise refusal(answer)
        found += _tags(answer, conversation.name)
        following = _next(answer)
        if following is None:
            return tuple(found)
        target = following
    raise RegistryError(f"the list of tags of {conversation.name} has no end within {MAX_PAGES} pages")


def _tags(answer: Answer, name: str) -> list[str]:
    if not answer.whole:
        raise RegistryError(f"a page of the tags of {name} is larger than {MAX_PAGE} bytes")
    try:
        # A repository without tags answers null (docker's registry) or an empty list.
        return [str(value) for value in json.loads(answer.body)["tags"] or ()]
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise RegistryError(f"{name} was asked for its tags, and answered something else") from error


def _next(answer: Answer) -> str | None:
    match = _NEXT.search(answer.headers.get("Link", ""))
    if match is None:
        return None
    url = resolve(answer.url, match["url"])
    if origin(url) != origin(answer.url):
        raise RegistryError("the next page of a list of tags is said to be at another host")
    return url
