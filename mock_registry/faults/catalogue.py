"""All effects, by the word that rules name them with."""

from .answers import Encode, Headers, Location, Status
from .breaks import Cut, LimitData, Reset, ResetPeer, SlowClose, Stall, Timeout
from .content import Corrupt, Lie, Ranges
from .effect import Effect
from .limits import BodyLimit, ExpireTokens, Quota, RateLimit
from .lists import NoReferrers, Paging
from .pace import Bandwidth, Latency, Slicer, Throttle, Trickle
from .presence import Collect, Immutable, Lag
from .redirect import Redirect
from .sessions import Collide, ForgetSessions, Replicas, ShortAccept, SlowCommit, UploadRange

EFFECTS: dict[str, type[Effect]] = {
    effect.kind(): effect
    for effect in (
        Bandwidth,
        BodyLimit,
        Collect,
        Collide,
        Corrupt,
        Cut,
        Encode,
        ExpireTokens,
        ForgetSessions,
        Headers,
        Immutable,
        Lag,
        Latency,
        Lie,
        LimitData,
        Location,
        NoReferrers,
        Paging,
        Quota,
        Ranges,
        RateLimit,
        Redirect,
        Replicas,
        Reset,
        ResetPeer,
        ShortAccept,
        Slicer,
        SlowClose,
        SlowCommit,
        Stall,
        Status,
        Throttle,
        Timeout,
        Trickle,
        UploadRange,
    )
}
