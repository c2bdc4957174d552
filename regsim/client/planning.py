"""What `--dry-run` puts in the place of a destination: a plan whose table reads like the transfer's.

Owns one addition to a plan: an image config is read, though it is not written, since it says which
instruction made each layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsim.core import media_types
from regsim.core.config import MAX_CONFIG_SIZE
from regsim.core.holdings import HeldSets
from regsim.core.ledger import Evidence
from regsim.store.verify import read_all
from regsim.transfer.plan import PlannedDestination

if TYPE_CHECKING:
    from regsim.core.account import Account
    from regsim.store.protocols import Content
    from regsim.transfer.ends import Destination


class LabelledPlan(PlannedDestination):
    """A destination that takes nothing, but reads configs.

    Args:
        real: who answers what is there.
        receives: whether reading content costs wire bytes.
    """

    def __init__(self, real: Destination, *, receives: bool) -> None:
        present = Evidence.HEAD if real.remote else Evidence.LOCAL
        super().__init__(real, HeldSets(present=present), receives=receives)

    async def put(self, content: Content, session: object | None, account: Account) -> None:
        """Remember that content would have been written."""
        descriptor = content.descriptor
        if descriptor.media_type in media_types.CONFIGS and descriptor.size <= MAX_CONFIG_SIZE:
            received = account.received
            await read_all(content, limit=MAX_CONFIG_SIZE)
            account.received = received  # which the plan itself accounts for
        await super().put(content, session, account)
