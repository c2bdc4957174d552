"""A registry on a port, in a thread of its own, for code that has no event loop.

Owns the thread and its loop. Must not know who uses it.
"""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from .app import MockRegistry
from .journal import Journal

if TYPE_CHECKING:
    from .server import Limits, Server
    from .tls import Certificate

T = TypeVar("T")

_PATIENCE = 10.0
"""Seconds for what takes milliseconds unless something is wrong."""

_STOP_TIME = 1.0
"""Seconds that requests under way get when it stops: a test that is over waits for none."""


class RegistryServer:
    """A registry that is served from a thread. As a context manager, or from `start` to `stop`.

    The registry belongs to that thread's event loop: ask the journal here, add and remove faults, and
    let `call` do the rest.

    Args:
        registry: What to serve; a new one by default.
        host: Address to bind.
        port: 0 takes any free one.
        limits: Sizes and times of the server; by default its own, and one second for what is under way when
            it stops.
        tls: As of `MockRegistry.serve`.
    """

    def __init__(
        self,
        registry: MockRegistry | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: "Limits | None" = None,
        tls: "Certificate | str | None" = None,
    ) -> None:
        self.registry = MockRegistry() if registry is None else registry
        self._host, self._port, self._limits, self._tls = host, port, limits, tls
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stack = contextlib.AsyncExitStack()
        self._begun: Server | None = None

    @property
    def url(self) -> str:
        """The address to reach it, such as ``http://127.0.0.1:43121``."""
        return self._server.url

    @property
    def netloc(self) -> str:
        """Host and port, as they stand before a repository's name in an image reference."""
        return self._server.netloc

    @property
    def ca(self) -> Path | None:
        """The file by which clients can check this server; ``None`` without TLS."""
        return self._server.ca

    @property
    def journal(self) -> Journal:
        """The journal, once no request is under way, so that it holds all that arrived.

        ``registry.journal`` is the same one as it stands.

        Raises:
            TimeoutError: A request is still under way after 10 s.
        """
        if self._serving:
            try:
                self.call(self.registry.settled)
            except TimeoutError:
                raise TimeoutError(
                    "a request is still under way: end it first, or read registry.journal, as it stands"
                ) from None
        return self.registry.journal

    @overload
    def call(self, function: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T: ...
    @overload
    def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T: ...
    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function, or a coroutine function, in the registry's event loop, and return its result.

        Raises:
            RuntimeError: The registry is not being served.
            TimeoutError: It takes longer than 10 s.
        """
        if not self._serving:
            raise RuntimeError("the registry is not being served")
        return self._run(function, *args, timeout=_PATIENCE, **kwargs)

    def _run(
        self, function: Callable[..., Any], *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> Any:
        """Call a function in the thread's loop, also before the registry is served and when it stops."""

        async def called() -> Any:
            async with asyncio.timeout(timeout):
                result = function(*args, **kwargs)
                return await result if inspect.isawaitable(result) else result

        assert self._loop is not None  # noqa: S101 (the thread has been started)
        return asyncio.run_coroutine_threadsafe(called(), self._loop).result()

    def start(self) -> None:
        """Serve.

        Raises:
            OSError: The address cannot be bound, or the certificate's files cannot be read.
            RuntimeError: It was started before.
        """
        if self._thread is not None:
            raise RuntimeError("a server is started once: make another one, of the same registry if need be")
        from .server import Limits  # noqa: PLC0415 (a registry in process loads no socket code)

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=_run_until_stopped, args=[self._loop], name="mock-registry", daemon=True
        )
        self._thread.start()
        limits = self._limits or Limits(stop_time=_STOP_TIME)
        context = self.registry.serve(self._host, self._port, limits=limits, tls=self._tls)
        try:
            self._begun = self._run(self._stack.enter_async_context, context, timeout=_PATIENCE)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop serving, gracefully, and release what the registry holds. Harmless when done twice."""
        if self._loop is None or self._thread is None or not self._thread.is_alive():
            return
        try:
            self._run(self._stack.aclose)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    @property
    def _server(self) -> "Server":
        if self._begun is None:
            raise RuntimeError("the registry has not been served yet")
        return self._begun

    @property
    def _serving(self) -> bool:
        return self._begun is not None and self._thread is not None and self._thread.is_alive()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def _run_until_stopped(loop: asyncio.AbstractEventLoop) -> None:
    with asyncio.Runner(loop_factory=lambda: loop):  # ends what is left in the loop, and closes it
        loop.run_forever()
