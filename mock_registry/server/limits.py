"""What the server puts up with, in octets and seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes and times of the HTTP server.

    Attributes:
        target: Octets of a request's target; beyond it, 414.
        head: Octets of a request's head; beyond it, 431.
        bodies_held: Octets of all request bodies together that wait for the app, or that it has gathered;
            beyond it, each connection holds what one read of its socket brings, and the app does not gather.
        body_gathered: Octets of a request's body that the app gathers at most before it uses them.
        body_held: Octets of a connection's bodies that wait for the app; beyond it, the socket is not read.
        pipeline: Requests that wait for an earlier one on the same connection; beyond it, likewise.
        linger: Octets that are still taken from a peer that was answered before it had sent everything.
        head_time: Seconds for a request's head to arrive, from its first octet.
        idle_time: Seconds that a connection is kept open between requests.
        body_time: Seconds without any octet of an unfinished body; then 408.
        write_time: Seconds in which a peer must have taken the octets under way; then it is cut off.
        linger_time: Seconds that such a peer has for the rest.
        stop_time: Seconds that requests under way get when the server stops.
    """

    target: int = 16 << 10
    head: int = 64 << 10
    bodies_held: int = 16 << 20
    body_gathered: int = 4 << 20
    body_held: int = 4 << 20
    pipeline: int = 32
    linger: int = 64 << 20
    head_time: float = 30.0
    idle_time: float = 120.0
    body_time: float = 60.0
    write_time: float = 120.0
    linger_time: float = 10.0
    stop_time: float = 5.0
