"""A repository of a registry: everything that can be asked of it, each request charged to an account.

Owns the room's public face. Must not know ledgers, scenarios, or what is worth moving.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from regsim.core.manifest import referrer_of
from regsim.registry import blobs, listing, manifests, session

# Methods have the names of these two modules.
from regsim.registry import referrers as referrer_lists
from regsim.registry import upload as uploads
from regsim.registry.answer import refusal
from regsim.registry.ranges import RangedBlob
from regsim.registry.requests import Host, Requests

if TYPE_CHECKING:
    from regsim.core import Descriptor, Digest
    from regsim.core.account import Account
    from regsim.registry.answer import Answer
    from regsim.store.protocols import Content

_DELETED = frozenset({HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT})


class Repository(Requests):
    """A repository, reached over a transport to its registry; arguments and errors are as for `Requests`.

    Every method raises `NetworkError` if no whole answer came in spite of retries, and `RegistryError` with
    the registry's own words if it refused.
    """

    resolve = manifests.resolve
    fetch_manifest = manifests.fetch
    has_blob = blobs.has
    is_held_by = blobs.is_held_by
    mount = uploads.mount
    upload = uploads.upload
    cancel = session.cancel
    tags = listing.tags
    list_missing_referrers = referrer_lists.list_missing
    referrers = referrer_lists.listed

    def blob(self, descriptor: Descriptor, account: Account) -> Content:
        """Return a blob as content, whose stream survives cuts (end-2); see `RemoteBlob` and `RangedBlob`."""
        ranges = self.registry.ranges
        if ranges is not None and ranges.divide(descriptor.size):
            return RangedBlob(self, descriptor, account, ranges)
        return blobs.RemoteBlob(self, descriptor, account)

    async def put_manifest(
        self,
        raw: bytes,
        media_type: str,
        reference: str,
        account: Account,
        *,
        digest: Digest | None = None,
        patiently: bool = False,
    ) -> Descriptor:
        """Write a manifest as `manifests.put` does; return what it is now.

        Where the manifest names a subject and the registry does not say (`OCI-Subject`) that it lists it
        there, it is listed under the subject's fallback tag, at the cost of accounts apart from `account`.
        """
        written, listed = await manifests.put(
            self, raw, media_type, reference, account, digest=digest, patiently=patiently
        )
        referrer = None if listed else referrer_of(written, raw)
        if referrer is not None:
            await referrer_lists.keep(self, referrer, account)
        return written

    async def delete_manifest(self, reference: str, account: Account) -> None:
        """Delete a tag, or by digest a manifest and all its tags (end-9).

        Raises:
            NotFoundError: it is absent.
        """
        await self._delete(self.manifest_target(reference), account)

    async def delete_blob(self, digest: Digest, account: Account) -> None:
        """Delete a blob from this repository (end-10).

        Raises:
            NotFoundError: it is absent.
        """
        await self._delete(self.blob_target(digest), account)

    async def _delete(self, target: str, account: Account) -> None:
        tries = 0

        async def send() -> Answer:
            nonlocal tries
            tries += 1
            return await self.send("DELETE", target, account, deletes=True)

        answer = await self.patience.ask(send, account)
        # 404 on a repeated try: the first one's answer was lost behind its effect.
        if answer.status in _DELETED or (answer.status == HTTPStatus.NOT_FOUND and tries > 1):
            return
        raise refusal(answer)


class Registry(Host):
    """The repositories of one registry."""

    catalog = listing.catalog

    def repository(self, name: str, *, writes: bool = False) -> Repository:
        """Return one of the registry's repositories, which need not exist yet; arguments as for `Repository`.

        Raises:
            InvalidReferenceError: `name` is no repository name.
        """
        return Repository(self, name, writes=writes)
