"""`regsim ls`, `catalog`, `tag` and `delete`: registry housekeeping."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from regsim.cli.asking import ask
from regsim.cli.connecting import Connecting
from regsim.cli.output import Format, printable

if TYPE_CHECKING:
    from regsim.core import Descriptor

Output = Annotated[Path | None, Parameter(name=("--output", "-o"))]


def ls(
    repository: str,
    /,
    *,
    format: Format = Format.TEXT,  # noqa: A002  (the flag is called --format)
    output: Output = None,
    connecting: Connecting | None = None,
) -> None:
    """List all tags of a repository, one a line.

    Args:
        repository: HOST[:PORT]/NAME or oci:DIR.
        format: text or json.
        output: print to this file instead.
        connecting: see below.
    """
    render = _list("repository", repository, "tags")
    ask(
        lambda client: client.tags(repository),
        render,
        connecting,
        address=repository,
        form=format,
        output=output,
    )


def catalog(
    host: str,
    /,
    *,
    format: Format = Format.TEXT,  # noqa: A002  (the flag is called --format)
    output: Output = None,
    connecting: Connecting | None = None,
) -> None:
    """List all repositories of a registry, one a line, where it offers a catalog.

    Args:
        host: HOST[:PORT], or an http or https URL of one.
        format: text or json.
        output: print to this file instead.
        connecting: see below.
    """
    render = _list("registry", host, "repositories")
    ask(lambda client: client.catalog(host), render, connecting, host=host, form=format, output=output)


def tag(
    image: str,
    tag: str,
    /,
    *,
    format: Format = Format.TEXT,  # noqa: A002  (the flag is called --format)
    output: Output = None,
    connecting: Connecting | None = None,
) -> None:
    """Give an image another tag in the same repository, without moving a layer.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST] or oci:DIR[:TAG].
        tag: the new tag.
        format: text or json.
        output: print to this file instead.
        connecting: see below.
    """

    def render(found: Descriptor, form: Format) -> str:
        if form is Format.JSON:
            known = {"digest": found.digest, "media_type": found.media_type, "size": found.size}
            return json.dumps({"tag": tag, **known}, indent=2) + "\n"
        return f"{tag} {found.digest}\n"

    ask(lambda client: client.tag(image, tag), render, connecting, address=image, form=format, output=output)


def delete(
    image: str,
    /,
    *,
    format: Format = Format.TEXT,  # noqa: A002  (the flag is called --format)
    output: Output = None,
    connecting: Connecting | None = None,
) -> None:
    """Delete a tag, or by digest an image with all its tags; blobs are left to the registry's collector.

    Args:
        image: HOST[:PORT]/NAME[:TAG][@DIGEST] or oci:DIR[:TAG].
        format: text or json.
        output: print to this file instead.
        connecting: see below.
    """

    def render(_: None, form: Format) -> str:
        if form is Format.JSON:
            return json.dumps({"deleted": image}, indent=2) + "\n"
        return f"deleted {printable(image)}\n"

    ask(lambda client: client.delete(image), render, connecting, address=image, form=format, output=output)


def _list(owner: str, name: str, key: str) -> Callable[[Sequence[str], Format], str]:
    def render(names: Sequence[str], form: Format) -> str:
        if form is Format.JSON:
            return json.dumps({owner: name, key: list(names)}, indent=2) + "\n"
        # They are the registry's words, and may be meant to steer a terminal.
        return "".join(f"{printable(each)}\n" for each in names)

    return render
