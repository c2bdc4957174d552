"""A repository of a registry: everything that can be asked of it, each request charged to an account.

Owns the room's public face. Must not know ledgers, scenarios, or what is worth moving.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from regsim.core.manifest import referrer_of
from regsim.core.reference import check_repository
from regsim.registry import blobs, listing, manifests, referrers, upload
from regsim.registry.answer import refusal
from regsim.registry.login.challenge import CATALOG, Need
from regsim.registry.ranges import RangedBlob
from regsim.registry.requests import Habits, Requests
from regsim.registry.retry import Patience
from regsim.registry.session import UploadSession, cancel
from regsim.registry.upload import Mounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from regsim.core import Descriptor, Digest
    from regsim.core.account import Account
    from regsim.core.manifest import Referrer
    from regsim.registry.answer import Answer
    from regsim.registry.ranges import Ranges
    from regsim.registry.transport import Transport
    from regsim.store.protocols import Content

__all__ = ["Mounted", "Registry", "Repository", "UploadSession"]

_DELETED = frozenset({HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT})


class Repository(Requests):
    """A repository, reached over a transport to its registry; arguments and errors are as for `Requests`.

    Every method raises `NetworkError` if no whole answer came in spite of retries, and `RegistryError` with
    the registry's own words if it refused.
    """

    async def resolve(
        self, reference: str, account: Account, *, forbidden_means_absent: bool = False
    ) -> Descriptor | None:
        """Return what a tag or digest names, None where it is absent: only a 404 says so.

        One HEAD (end-3). It becomes a GET, whose body is `received` and verified, where the HEAD was
        refused with 403 or 405, or left out what it should say.

        Args:
            reference: a tag or a digest.
            account: is charged.
            forbidden_means_absent: for a look before a push: a 403 counts as absent, with a warning.

        Raises:
            ContentError: the registry answered with something that is no manifest, or a wrong one.
        """
        return await manifests.resolve(
            self, reference, account, forbidden_means_absent=forbidden_means_absent
        )

    async def fetch_manifest(self, wanted: Descriptor | str, account: Account) -> tuple[Descriptor, bytes]:
        """Return a manifest and its exact bytes, verified (end-3).

        Args:
            wanted: a descriptor, a tag or a digest. What a descriptor says must hold in full.
            account: is charged.

        Raises:
            NotFoundError: it is absent.
            ContentError: digest, size or media type are wrong, or it is larger than `MAX_MANIFEST_SIZE`.
        """
        return await manifests.fetch(self, wanted, account)

    async def has_blob(self, descriptor: Descriptor, account: Account, *, closely: bool = False) -> bool:
        """Tell whether the repository has a blob: only a 404 says that it has not.

        One HEAD (end-2). It becomes a GET for one byte where the HEAD was refused with 403 or 405, and
        where it states a size that is not the descriptor's: proxies get this wrong on HEAD.

        Args:
            descriptor: of the blob.
            account: is charged.
            closely: ask with that GET at once, since a HEAD may be answered from a cache.

        Raises:
            ContentError: the size is another one by GET too. A digest has one size only, so something is
                damaged, and an upload over it would be ignored by most registries.
        """
        return await blobs.has(self, descriptor, account, closely=closely)

    async def is_held_by(self, repository: str, digest: Digest, account: Account) -> bool:
        """Tell whether another repository of this registry is seen to hold a blob: one HEAD, one try.

        Any answer but a clear yes counts as no. A mount that is refused costs more than that, and
        opens a session.
        """
        return await blobs.is_held_by(self, check_repository(repository), digest, account)

    def blob(self, descriptor: Descriptor, account: Account) -> Content:
        """Return a blob as content, whose stream survives cuts (end-2); see `RemoteBlob` and `RangedBlob`."""
        if self.ranges is not None and self.ranges.divide(descriptor.size):
            return RangedBlob(self, descriptor, account, self.ranges)
        return blobs.RemoteBlob(self, descriptor, account)

    async def mount(
        self, digest: Digest, from_repository: str, account: Account
    ) -> Mounted | UploadSession | None:
        """Ask the registry to link a blob from another of its repositories (end-11).

        Returns:
            `Mounted`; or the session that the registry opened instead, to be handed to `upload` or
            `cancel`; or None where it refused, to be followed by a plain `upload`.
        """
        checked = check_repository(from_repository)
        return await upload.mount(self, digest, checked, account)

    async def upload(self, content: Content, account: Account, session: UploadSession | None = None) -> bool:
        """Write a blob, verified on its way out (end-4 to end-6): in one PUT, or in pieces if need be.

        After a failure that may pass it goes on at the byte that the registry holds, or in a new session
        where that is forgotten; where all had been sent and only the answer was lost, the blob is looked for
        first. A session that is given up is cancelled.

        Args:
            content: is opened once for each attempt.
            account: is charged; `attempts` counts openings.
            session: that a mount has opened; None opens one.

        Returns:
            Whether it is there by this upload. False: somebody else's was first, and not all had to be sent.

        Raises:
            ContentError: the bytes are not what the descriptor says; the registry never got the last ones.
        """
        return await upload.upload(self, content, account, session)

    async def cancel(self, session: UploadSession, account: Account) -> None:
        """Give a session up (end-14); never fails."""
        await cancel(self, session, account)

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
        """Write a manifest under a tag or its digest, byte for byte (end-7a); return what it is now.

        Before a repeated try the registry is asked whether the first one had its effect. Where the manifest
        names a subject and the registry does not say (`OCI-Subject`) that it lists it there, it is listed
        under the subject's fallback tag, at the cost of accounts beside `account`.

        Args:
            raw: the manifest.
            media_type: what it is.
            reference: a tag, or its digest.
            account: is charged.
            digest: by which the tag shall name it. A registry that is given a tag alone takes the sha256, so
                that another one goes with the tag (end-7b); a registry that does not know that is given the
                manifest once more, under the tag, at the cost of an account beside `account`.
            patiently: some registries see what was pushed only after a time: that blobs are missing may pass.
        """
        written, listed = await manifests.put(
            self, raw, media_type, reference, account, digest=digest, patiently=patiently
        )
        referrer = None if listed else referrer_of(written, raw)
        if referrer is not None:
            await referrers.keep(self, referrer, account)
        return written

    async def referrers(
        self, subject: Digest, account: Account, artifact_type: str | None = None
    ) -> tuple[Descriptor, ...]:
        """Return what refers to a manifest (end-12): descriptors with their artifact types and annotations.

        If a registry does not support the request, the fallback tag is read instead.

        Args:
            subject: the manifest's digest; it need not be there.
            account: is charged.
            artifact_type: only those of this type.

        Raises:
            RegistryError: the registry refused, or the list has no end.
        """
        return await referrers.listed(self, subject, account, artifact_type)

    async def list_missing_referrers(self, found: Iterable[Referrer], account: Account) -> None:
        """See to it that manifests that are there are listed under their subjects, as `put_manifest` does.

        An earlier client may have been stopped between the two, or not have known that it had to.

        Args:
            found: each with its subject, and as lists describe it.
            account: is charged.

        Raises:
            RegistryError: as from `referrers`, or others write the fallback tag all the time.
        """
        await referrers.list_missing(self, found, account)

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

    async def tags(self, account: Account) -> tuple[str, ...]:
        """Return all tags, in the registry's order (end-8).

        Raises:
            NotFoundError: the registry does not know the repository.
        """
        return await listing.tags(self, account)

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


class Registry:
    """The repositories of one registry, which share its transport, its patience, and what is known of it.

    Args:
        transport: to the registry. It is not closed here.
        patience: how long to keep trying; None: three retries.
        warn: receives warnings for the user; the work goes on; None: the log.
        habits: what is known of it; None: nothing yet.
        ranges: how large blobs are divided to be read; None: they are not.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        patience: Patience | None = None,
        warn: Callable[[str], None] | None = None,
        habits: Habits | None = None,
        ranges: Ranges | None = None,
    ) -> None:
        self.host = transport.host
        self._transport = transport
        self._patience = patience or Patience()
        self._warn = warn
        self._habits = habits or Habits()
        self._ranges = ranges

    def repository(self, name: str, *, writes: bool = False) -> Repository:
        """Return one of the registry's repositories, which need not exist yet; arguments as for `Repository`.

        Raises:
            InvalidReferenceError: `name` is no repository name.
        """
        return Repository(
            self._transport,
            name,
            writes=writes,
            patience=self._patience,
            warn=self._warn,
            habits=self._habits,
            ranges=self._ranges,
        )

    async def catalog(self, account: Account) -> tuple[str, ...]:
        """Return the names of all repositories, in the registry's order.

        The specification does not know it; distribution, zot, harbor and others have it all the same.

        Raises:
            RegistryError: the registry has no catalog, or does not show it.
        """

        async def ask(target: str) -> Answer:
            async def send() -> Answer:
                need = Need(scopes=(CATALOG,))
                return await self._transport.send("GET", target, account, limit=listing.MAX_PAGE, need=need)

            return await self._patience.ask(send, account)

        return await listing.catalog(ask, self.host)
