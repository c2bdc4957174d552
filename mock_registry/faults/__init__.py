"""Faults and profiles: how a registry misbehaves, exactly as told and exactly as often.

Owns the grammar of rules, which requests they are for, what they do, and which ones a named registry follows.
Must not know what a correct registry does beyond what its handlers answer.
"""

from .answers import BodyLimit, ExpireTokens, Headers, Location, RateLimit, Status
from .connection import (
    Bandwidth,
    Corrupt,
    Cut,
    Latency,
    LimitData,
    Reset,
    ResetPeer,
    Slicer,
    SlowClose,
    Stall,
    Throttle,
    Timeout,
    Trickle,
)
from .content import Encode, Lie, Ranges, Redirect
from .effect import EFFECTS, Effect, Fault, Rule
from .parsing import FaultError, Problem
from .presence import Collect, Immutable, Lag, NoReferrers, Paging
from .rules import Rules
from .sessions import Collide, ForgetSessions, Quota, Replicas, ShortAccept, SlowCommit, UploadRange

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
    "Throttle",
    "Timeout",
    "Trickle",
    "UploadRange",
]
