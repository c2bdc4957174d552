"""Running one coroutine to its end, through Ctrl-C and SIGTERM.

Owns what signals mean: the first one cancels the work, which still tells what it had done; a second one ends
the process at once.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work`; an interrupt cancels it, and it may still return what it has.

    Raises:
        KeyboardInterrupt: it was interrupted and had nothing to return.
    """
    # Beside the task: when asyncio takes signals back it writes out what a task returned, for nobody.
    returned: list[T] = []

    async def guarded() -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (a coroutine runs in one)
        with _interrupted_by_signals(task.cancel):
            returned.append(await work)

    if not gc.isenabled():
        # The process has started (`regsim.__main__`), and from here on there may be garbage.
        gc.freeze()
        gc.enable()
    try:
        asyncio.run(guarded())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    return returned[0]


@contextmanager
def _interrupted_by_signals(interrupt: Callable[[], object]) -> Iterator[None]:
    """Call `interrupt` on the first signal that is not ignored; leave the next one to the system."""
    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, Any] = {}

    def first() -> None:
        for number in before:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        interrupt()

    if threading.current_thread() is threading.main_thread():
        # A shell lets what it starts in the background ignore Ctrl-C, and nohup likewise.
        before = {each: found for each in _SIGNALS if (found := signal.getsignal(each)) != signal.SIG_IGN}
    for number in before:
        loop.add_signal_handler(number, first)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
