"""The pytest plugin: real registries in containers, as fixtures.

Owns the names of the fixtures and how long their registries last. pytest imports this module at every start,
so it imports nothing that takes time. Registries in this process are in `mock_registry.pytest_plugin`.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping
    from pathlib import Path

    from regsim.scenario.registry_container import RegistryContainer

T = TypeVar("T")
_LOG = logging.getLogger("regsim")


class RunningRegistry:
    """A registry that runs in a container.

    Attributes:
        url: such as `http://127.0.0.1:49153`.
        host: `127.0.0.1:49153`, as references have it.
        name: of the container.
    """

    def __init__(self, container: RegistryContainer, loop: _Loop) -> None:
        self.url, self.host, self.name = container.url, container.host, container.name
        self._container, self._loop = container, loop

    def logs(self) -> str:
        """Return everything that the registry has printed so far."""
        return self._loop.call(self._container.logs())


class RegistryContainerFactory:
    """Starts registries that last until the session ends."""

    def __init__(self, image: str, loop: _Loop, stack: AsyncExitStack) -> None:
        self._image, self._loop, self._stack = image, loop, stack

    def __call__(
        self,
        image: str | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        volumes: Mapping[Path, str] | None = None,
        tls: bool = False,
    ) -> RunningRegistry:
        """Start a registry.

        Args:
            image: None: the value of `registry_container_image`.
            environment: its variables, such as `{"REGISTRY_AUTH": "htpasswd", …}`.
            volumes: files and directories of this machine, and the paths in the container where they are
                mounted read-only.
            tls: its configuration makes it speak TLS.

        Raises:
            RegsimError: there is no engine, or the registry does not start.
        """
        __tracebackhide__ = True
        from regsim.scenario.registry_container import registry_container

        starting = registry_container(
            image or self._image, environment=environment, volumes=volumes, tls=tls, tell=_LOG.warning
        )
        return RunningRegistry(self._loop.call(self._stack.enter_async_context(starting)), self._loop)


@pytest.fixture(scope="session")
def registry_container_image() -> str:
    """Return the image that registries are started from; override it to use another one."""
    return "registry:2"


@pytest.fixture(scope="session")
def registry_container_factory(registry_container_image: str) -> Iterator[RegistryContainerFactory]:
    """Return a callable that starts registry containers; all are removed when the session ends."""
    with closing(_Loop()) as loop:
        stack = AsyncExitStack()
        try:
            yield RegistryContainerFactory(registry_container_image, loop, stack)
        finally:
            loop.call(stack.aclose())


@pytest.fixture(scope="session")
def registry_container(registry_container_factory: RegistryContainerFactory) -> RunningRegistry:
    """Return a registry in a container, with its `url` and `host`, that all tests of the session share."""
    __tracebackhide__ = True
    return registry_container_factory()


class _Loop:
    """An event loop in its own thread, which works whether or not a test has a loop."""

    def __init__(self) -> None:
        import asyncio
        from threading import Thread

        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="regsim registry containers", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the loop and return its result; an interrupt cancels it."""
        import asyncio

        done = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return done.result()
        except KeyboardInterrupt:
            done.cancel()
            raise

    def close(self) -> None:
        """Wait for tasks that were cancelled, which may still be removing containers, and end the loop."""
        self.call(_settled())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _settled() -> None:
    import asyncio

    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
