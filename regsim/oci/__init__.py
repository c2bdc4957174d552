"""The vocabulary of OCI images. Imports the standard library and `regsim.errors` only."""

from __future__ import annotations

from regsim.oci.config import History, ImageConfig, config_document, parse_config
from regsim.oci.descriptor import Descriptor
from regsim.oci.digest import Digest, Hasher
from regsim.oci.manifest import Document, Role, Successor
from regsim.oci.platform import Platform
from regsim.oci.reference import Reference

__all__ = [
    "Descriptor",
    "Digest",
    "Document",
    "Hasher",
    "History",
    "ImageConfig",
    "Platform",
    "Reference",
    "Role",
    "Successor",
    "config_document",
    "parse_config",
]
