"""A container engine for tests: a program that runs registries as processes and remembers what it was asked.

Called as `engine_program.py FOLDER COMMAND…`. The folder holds what it shall be like, one file each:
`images` (names, one a line), `no-info`, `no-publish`, `no-pull`, `no-remove`, `ends-at-once`, `slow-start`;
and what became of it: `calls` (JSON, one a line), and one file for each container there is. What stands in
`ENGINE_REGISTRY_OPTIONS` in the environment is an option of the registry.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any


def refuse(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 125


def info(folder: Path) -> int:
    return refuse("cannot connect to the engine") if (folder / "no-info").exists() else 0


def images(folder: Path) -> list[str]:
    return (folder / "images").read_text().split()


def image(folder: Path, _inspect: str, name: str) -> int:
    return 0 if name in images(folder) else refuse("no such image")


def pull(folder: Path, name: str) -> int:
    if (folder / "no-pull").exists():
        return refuse(f"{name}: not found")
    (folder / "images").write_text("\n".join([*images(folder), name]))
    return 0


def run(folder: Path, *options: str) -> int:
    if "--publish" in options and (folder / "no-publish").exists():
        return refuse("no bridge here")
    name = options[options.index("--name") + 1]
    log = folder / f"{name}.log"
    address = next((each for each in options if each.startswith("REGISTRY_HTTP_ADDR=")), ":0")
    port = address.rpartition(":")[2]
    # From here on there is a container, whether it runs or not.
    keep(folder, name, pid=None, port=int(port))
    if (folder / "ends-at-once").exists():
        log.write_text("starting\nconfiguration error: no storage\n")
        return 0
    more = os.environ.get("ENGINE_REGISTRY_OPTIONS", "").split()
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "mock_registry", "--port", port, "--log", "text", *more],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=out,
            start_new_session=True,
        )
    assert process.stdout is not None
    url = process.stdout.readline().decode().strip()
    if url.startswith("https"):
        process.stdout.readline()  # the certificate: who writes to a pipe that nobody reads any more ends
    keep(folder, name, pid=process.pid, port=int(url.rpartition(":")[2]))
    if (folder / "slow-start").exists():
        # Whoever reads the one pipe knows that there is a container; the other one is written to go on.
        (folder / "slow-start").write_bytes(b"")
        (folder / "go-on").read_bytes()
    print(name)
    return 0


def keep(folder: Path, name: str, **container: int | None) -> None:
    (folder / f"{name}.container").write_text(json.dumps(container))


def kept(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.container").read_text())


def port(folder: Path, name: str, _port: str) -> int:
    container = kept(folder, name)
    if container["pid"] is not None:
        print(f"127.0.0.1:{container['port']}")
    return 0


def inspect(folder: Path, *words: str) -> int:
    print("true" if kept(folder, words[-1])["pid"] is not None else "false")
    return 0


def logs(folder: Path, *words: str) -> int:
    print((folder / f"{words[-1]}.log").read_text(), end="", file=sys.stderr)
    return 0


def rm(folder: Path, *words: str) -> int:
    name = words[-1]
    if (folder / "no-remove").exists():
        return refuse("the device is busy")
    if not (folder / f"{name}.container").exists():
        return refuse(f"No such container: {name}")
    pid = kept(folder, name)["pid"]
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    (folder / f"{name}.container").unlink()
    return 0


COMMANDS = {each.__name__: each for each in (info, image, pull, run, port, inspect, logs, rm)}


def main() -> int:
    folder, command, *words = sys.argv[1:]
    with (Path(folder) / "calls").open("a") as calls:
        calls.write(json.dumps([command, *words]) + "\n")
    called: Any = COMMANDS[command]
    return int(called(Path(folder), *words))


if __name__ == "__main__":
    sys.exit(main())
