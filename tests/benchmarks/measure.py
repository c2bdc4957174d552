"""What a process costs, and what this machine could do at best."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import socket
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run of a process took: wall-clock and CPU seconds, and the peak of its memory in MB."""

    seconds: float
    cpu: float
    peak: float


def run(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Cost:
    """Run a program to its end.

    The kernel counts the memory of whoever starts a program as that program's own, so this process has to
    stay small.

    Args:
        command: the program's path and its arguments.
        environment: all of it.
        log: takes what the program prints.

    Raises:
        RuntimeError: it failed.
    """
    output = (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), output, (os.POSIX_SPAWN_DUP2, 1, 2)]
    started = time.perf_counter()
    child = os.posix_spawn(command[0], list(command), environment, file_actions=actions)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - started
    if status:
        shown = log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}:\n{shown}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)


def hash_files(paths: Sequence[Path]) -> float:
    """Return the seconds that it takes to read files once and hash them with SHA-256."""
    buffer = memoryview(bytearray(_BLOCK))
    started = time.perf_counter()
    for path in paths:
        hasher = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                hasher.update(buffer[:count])
        hasher.digest()
    return time.perf_counter() - started


def copy_over_loopback(size: int) -> float:
    """Return the seconds that it takes to send `size` bytes over loopback from one thread to another."""
    data, buffer = bytes(_BLOCK), bytearray(_BLOCK)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()

    def send() -> None:
        with sender:
            left = size
            while left > 0:
                sender.sendall(memoryview(data)[: min(left, _BLOCK)])
                left -= _BLOCK

    started = time.perf_counter()
    thread = threading.Thread(target=send)
    thread.start()
    with receiver:
        while receiver.recv_into(buffer):
            pass
    thread.join()
    return time.perf_counter() - started


def warm(folder: Path, size: int) -> None:
    """Write `size` bytes and delete them: memory that was never touched is slow, above all in a VM."""
    path, data = folder / "warm", bytes(_BLOCK)
    with path.open("wb", buffering=0) as file:
        for _ in range(0, size, _BLOCK):
            file.write(data)
    path.unlink()


def machine() -> str:
    """Return what figures are worth nothing without: when, where, and how busy it was."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return f"{now}: {os.cpu_count()} processors, Python {platform.python_version()}, load average {load}"


def program(name: str) -> str | None:
    """Return where a program is, None where it is not installed."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), beside]))
