"""Threads for what would hold the loop up: hashing, large writes, flushing, freeing large files.

Owns the threads. Must not know what runs in them.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Hops:
    """A pool of threads, made when first needed."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    def start(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Begin work in a thread, and return what will be its result."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(2 + (os.cpu_count() or 1), "mock-registry-storage")
        return asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def together(self, *works: Callable[[], T]) -> list[T]:
        """Run blocking work in threads, at once, and wait for all of it, even when cancelled meanwhile.

        Hashing and writing each leave the interpreter free; side by side they take as long as the slower.
        """
        futures = [self.start(work) for work in works]
        try:
            await asyncio.wait(futures)
        except asyncio.CancelledError:
            await asyncio.wait(futures)  # threads cannot be stopped, so their effect must be known
            for future in futures:
                future.result()
            raise
        return [future.result() for future in futures]

    def close(self) -> None:
        """Let the threads end. A later call makes new ones."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None
