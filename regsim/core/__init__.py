"""The vocabulary of OCI images. Imports the standard library and `regsim.errors` only."""

from __future__ import annotations

from regsim.core.config import History, ImageConfig, config_document, parse_config
from regsim.core.descriptor import Descriptor, Digest
from regsim.core.manifest import Document, Role, Successor
from regsim.core.platform import Platform
from regsim.core.reference import Reference

__all__ = [
    "Descriptor",
    "Digest",
    "Document",
    "History",
    "ImageConfig",
    "Platform",
    "Reference",
    "Role",
    "Successor",
    "config_document",
    "parse_config",
]
