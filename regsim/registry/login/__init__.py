"""Who we are to a registry: challenges, credentials and tokens.

Owns what goes into an `Authorization` header, and to whom alone it may go. Must not know content, or what a
request is good for beyond the scopes that it needs.
"""

from __future__ import annotations

from regsim.registry.login.credentials import Anonymous, Credentials, FixedKeychain, Keychain
from regsim.registry.login.files import AuthFiles
from regsim.registry.login.scopes import Need, Scope

__all__ = ["Anonymous", "AuthFiles", "Credentials", "FixedKeychain", "Keychain", "Need", "Scope"]
