"""Whether a repository has a blob (distribution-spec, end-2).

Owns the question and its second opinion. Must not know what is done about the answer.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from regsim.core.account import Account, Loss
from regsim.errors import ContentError, RegsimError
from regsim.net.answer import Answer, ContentRange, refusal

if TYPE_CHECKING:
    from regsim.core import Descriptor, Digest
    from regsim.registry.conversation import Conversation

# A HEAD's refusal has no body to say why; some signed URLs are good for GET alone; and some registries
# do not know HEAD at all.
ASK_AGAIN = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.METHOD_NOT_ALLOWED})


async def is_seen(conversation: Conversation, digest: Digest, account: Account) -> bool:
    """Tell whether a HEAD for a blob is answered with 200; see `Repository.is_held_by`."""
    try:
        target = conversation.blob(digest)
        # With the token that the mount needs, if it needs one.
        answer = await conversation.send("HEAD", target, account, mounts_from=conversation.name)
    except RegsimError:
        return False
    return answer.status == HTTPStatus.OK


async def has(
    conversation: Conversation, descriptor: Descriptor, account: Account, *, closely: bool = False
) -> bool:
    """Tell whether the repository has a blob; see `Repository.has_blob`."""
    if closely:
        return await _has_by_range(conversation, descriptor, account)
    answer = await conversation.ask("HEAD", conversation.blob(descriptor.digest), account)
    if answer.status == HTTPStatus.NOT_FOUND:
        return False
    if answer.status == HTTPStatus.OK:
        # A length is often missing or zero on a HEAD, and then says nothing.
        if not answer.length or answer.length == descriptor.size:
            return True
    elif answer.status not in ASK_AGAIN:
        raise refusal(answer)
    return await _has_by_range(conversation, descriptor, account)


async def _has_by_range(conversation: Conversation, descriptor: Descriptor, account: Account) -> bool:
    """Ask with a GET for one byte, whose answer also tells the size; of an empty blob, for all of it."""
    asking = Account()
    try:
        answer = await conversation.ask(
            "GET",
            conversation.blob(descriptor.digest),
            asking,
            headers={"Range": "bytes=0-0"} if descriptor.size else {},
            content=True,
            limit=1,
        )
    finally:
        asking.lose(Loss.PROBE)
        account.add(asking)
    if answer.status == HTTPStatus.NOT_FOUND:
        return False
    size = _size(answer)
    if size is not None and size != descriptor.size:
        raise ContentError(
            f"blob {descriptor.digest.short} of {conversation.name} has {size} bytes in the registry, "
            f"{descriptor.size} by its descriptor",
            hint="one of the two is damaged; nothing was written over it",
        )
    return True


def _size(answer: Answer) -> int | None:
    if answer.status == HTTPStatus.PARTIAL_CONTENT:
        came = ContentRange.of(answer.headers)
        return came.total if came else None
    if answer.status != HTTPStatus.OK:
        raise refusal(answer)
    return answer.length
