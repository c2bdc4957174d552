"""Who may do what with the registry, and how they prove it: passwords, or tokens of a service of its own.

Owns credentials, rights and refusals. Must not know what handlers do, nor which server runs them.
"""

from .base import Auth, BasicAuth, Right
from .headers import Challenges
from .token_auth import TokenAuth
from .tokens import Lifetime, TokenAnswer
from .users import Htpasswd, HtpasswdError, Pairs, Users

__all__ = [
    "Auth",
    "BasicAuth",
    "Challenges",
    "Htpasswd",
    "HtpasswdError",
    "Lifetime",
    "Pairs",
    "Right",
    "TokenAnswer",
    "TokenAuth",
    "Users",
]
