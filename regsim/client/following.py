"""What a copy takes along besides an image: what refers to it, and what refers to that.

Owns which manifests are asked about, each once and within bounds. Must not know how anything is moved.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regsim.core.graph import MANIFEST_ROLES
from regsim.core.manifest import Referrer
from regsim.errors import ContentError
from regsim.registry.referrers import MAX_REFERRERS
from regsim.transfer.copy import CONCURRENT_CHECKS

if TYPE_CHECKING:
    from regsim.client.ends import Readable
    from regsim.core import Descriptor, Digest
    from regsim.core.account import Account
    from regsim.core.ledger import Ledger


@dataclass(slots=True)
class Following:
    """Finds what refers to what was transferred from `source`."""

    source: Readable
    _met: set[Digest] = field(default_factory=set)

    async def of(self, ledger: Ledger, account: Account) -> list[Referrer]:
        """Return what refers to the manifests of a transfer, without what was met before.

        Args:
            ledger: of the transfer; each manifest and index in it is asked about.
            account: is charged.

        Raises:
            ContentError: there is no end to them.
            NetworkError, RegistryError: the source does not say.
        """
        manifests = (entry.digest for entry in ledger.entries if entry.role in MANIFEST_ROLES)
        subjects = list(dict.fromkeys(manifests))
        self._met.update(subjects)
        found: dict[Digest, Referrer] = {}
        for subject, answer in zip(subjects, await self._ask(subjects, account), strict=True):
            for each in answer:
                if each.digest not in self._met:
                    found[each.digest] = Referrer(each, subject)
        self._met.update(found)
        if len(self._met) > MAX_REFERRERS:
            raise ContentError(f"more than {MAX_REFERRERS:,} manifests refer to {ledger.reference}")
        return list(found.values())

    async def _ask(self, subjects: list[Digest], account: Account) -> list[tuple[Descriptor, ...]]:
        turns = asyncio.Semaphore(CONCURRENT_CHECKS)

        async def ask(subject: Digest) -> tuple[Descriptor, ...]:
            async with turns:
                return await self.source.referrers(subject, account)

        # Nothing is left running, whichever fails first.
        answers = await asyncio.gather(*map(ask, subjects), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]
