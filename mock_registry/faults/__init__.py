"""Faults: rules by which a registry misbehaves, exactly as told and exactly as often.

Owns which requests are meant and what happens to them. Must not know what a healthy registry does beyond what
its handlers answer.
"""

from .answers import Encode, Headers, Location, Status
from .breaks import Cut, LimitData, Reset, ResetPeer, SlowClose, Stall, Timeout
from .catalogue import EFFECTS
from .content import Corrupt, Lie, Ranges
from .effect import Effect
from .fault import Fault, Stream, When
from .limits import BodyLimit, ExpireTokens, Quota, RateLimit
from .lists import NoReferrers, Paging
from .pace import Bandwidth, Latency, Slicer, Throttle, Trickle
from .parsing import FaultError, Problem, parse_faults
from .presence import Collect, Immutable, Lag
from .redirect import Redirect
from .rules import Rule, Rules
from .sessions import Collide, ForgetSessions, Replicas, ShortAccept, SlowCommit, UploadRange

__all__ = [
    "EFFECTS",
    "Bandwidth",
    "BodyLimit",
    "Collect",
    "Collide",
    "Corrupt",
    "Cut",
    "Effect",
    "Encode",
    "ExpireTokens",
    "Fault",
    "FaultError",
    "ForgetSessions",
    "Headers",
    "Immutable",
    "Lag",
    "Latency",
    "Lie",
    "LimitData",
    "Location",
    "NoReferrers",
    "Paging",
    "Problem",
    "Quota",
    "Ranges",
    "RateLimit",
    "Redirect",
    "Replicas",
    "Reset",
    "ResetPeer",
    "Rule",
    "Rules",
    "ShortAccept",
    "Slicer",
    "SlowClose",
    "SlowCommit",
    "Stall",
    "Status",
    "Stream",
    "Throttle",
    "Timeout",
    "Trickle",
    "UploadRange",
    "When",
    "parse_faults",
]
