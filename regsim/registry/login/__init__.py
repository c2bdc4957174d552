"""Logging in at registries: challenges, credentials and tokens.

Owns what goes into an `Authorization` header, and the only origin that it is sent to. Must not know content,
or what a request does beyond the scopes that it needs.
"""

from __future__ import annotations

from regsim.registry.login.auth_files import AuthFiles
from regsim.registry.login.credentials import Anonymous, Credentials, FixedKeychain, Keychain

__all__ = ["Anonymous", "AuthFiles", "Credentials", "FixedKeychain", "Keychain"]
