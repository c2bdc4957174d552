"""The plugin for pytest: registries as fixtures, and a marker that tells how they behave.

Owns the names of the fixtures and of the marker, and the end of what they hand out. Must not know any client,
nor whether a test is asynchronous. pytest imports it at every start, so it imports nothing that costs.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .app import MockRegistry
    from .auth import Auth
    from .background import RegistryServer

_MARKER = "mock_registry"
_OF_PORTS = ("host", "limits", "port", "tls")
_OF_LOGINS = ("anonymous_pull", "htpasswd", "rights", "users")
_PATIENCE = 10.0
_FRESH = ("auth", "journal", "profile", "storage")
"""What remembers something, so that one may be given by a function that makes it for each registry."""


class RegistryFactory:
    """Makes registries that last as long as the test. Its markers give the defaults.

    Args:
        settings: What the markers tell.
        stack: Ends what was made.
    """

    def __init__(self, settings: Mapping[str, Any], stack: ExitStack) -> None:
        self._settings = dict(settings)
        self._stack = stack

    def __call__(self, **settings: Any) -> "MockRegistry":
        """Return a fresh registry, to be used in process.

        Args:
            settings: Those of `MockRegistry`. ``auth`` may be words, ``basic`` or ``token``, with ``users``,
                ``rights``, ``htpasswd`` and ``anonymous_pull`` as `auth_from_words` has them.

        Raises:
            TypeError: There is no such setting.
            ValueError: It has no such value.
        """
        __tracebackhide__ = True
        for name in _OF_PORTS:
            if name in settings:
                raise TypeError(f"{name} means nothing in process; serve() takes it")
        registry = _make({**self._settings, **settings})
        self._stack.callback(_close, registry)
        return registry

    def serve(self, registry: "MockRegistry | None" = None, **settings: Any) -> "RegistryServer":
        """Return a registry that is served on a port, from a thread.

        Args:
            registry: Which one; a fresh one by default.
            settings: Of a fresh one, as above; ``host``, ``port``, ``limits`` and ``tls`` as of
                `MockRegistry.serve`.

        Raises:
            OSError: The address cannot be bound, or the certificate's files cannot be read.
            TypeError: There is no such setting.
            ValueError: It has no such value.
        """
        __tracebackhide__ = True
        from .background import RegistryServer  # noqa: PLC0415 (see above)

        everything = {**self._settings, **settings}
        of_port = {name: everything[name] for name in _OF_PORTS if name in everything}
        if registry is None:
            registry = _make(everything)
        elif others := sorted(settings.keys() - _OF_PORTS):
            raise TypeError(f"the registry is made already: {', '.join(others)} can no longer be set")
        return self._stack.enter_context(RegistryServer(registry, **of_port))


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest of the marker."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(auth=…, faults=[…], profile=…, **settings): how the test's mock registries behave; "
        "settings are those of MockRegistry and, on a port, of its serve()",
    )


@pytest.fixture
def mock_registry_factory(request: pytest.FixtureRequest) -> Iterator[RegistryFactory]:
    """Make as many registries as the test wants, in process or, by `serve`, on ports."""
    with ExitStack() as stack:
        yield RegistryFactory(_settings(request.node), stack)


@pytest.fixture
def mock_registry(mock_registry_factory: RegistryFactory) -> "MockRegistry":
    """Return a fresh registry in process: an ASGI app, whose `transport()` is for `httpx.AsyncClient`."""
    __tracebackhide__ = True
    return mock_registry_factory()


@pytest.fixture
def mock_registry_server(mock_registry_factory: RegistryFactory) -> "RegistryServer":
    """Return a fresh registry on a port of this machine, with its `url` and `journal`."""
    __tracebackhide__ = True
    return mock_registry_factory.serve()


def _settings(item: pytest.Item) -> dict[str, Any]:
    """Return what the markers of a test tell; of each setting, the closest one's word."""
    settings: dict[str, Any] = {}
    for marker in item.iter_markers(_MARKER):
        if marker.args:
            pytest.fail(f"the marker {_MARKER} takes settings by name, not {marker.args[0]!r}", pytrace=False)
        settings = {**marker.kwargs, **settings}
    return settings


def _make(settings: dict[str, Any]) -> "MockRegistry":
    """Return the requested registry, without what concerns its port."""
    __tracebackhide__ = True
    from .app import MockRegistry  # noqa: PLC0415 (see above)

    _check_names(MockRegistry, settings)
    given = {name: value for name, value in settings.items() if name not in (*_OF_PORTS, *_OF_LOGINS)}
    for name in _FRESH:
        if callable(given.get(name)):
            given[name] = given[name]()
    logins = {name: settings[name] for name in _OF_LOGINS if name in settings}
    given["auth"] = _auth(given.get("auth"), logins)
    if isinstance(given.get("faults"), str | Mapping):
        given["faults"] = [given["faults"]]
    return MockRegistry(**given)


def _check_names(make: Callable[..., object], settings: Mapping[str, Any]) -> None:
    """Complain of a setting that there is not.

    Raises:
        TypeError: Of the first one.
    """
    __tracebackhide__ = True
    from inspect import signature  # noqa: PLC0415 (see above)

    from .errors import close_to  # noqa: PLC0415 (see above)

    known = sorted((*signature(make).parameters, *_OF_PORTS, *_OF_LOGINS))
    for name in settings:
        if name not in known:
            raise TypeError(f"a mock registry has no setting {name!r}{close_to(name, known)}")


def _auth(auth: "Auth | str | None", logins: dict[str, Any]) -> "Auth | None":
    """Return the requested way to log in, from words or as given."""
    __tracebackhide__ = True
    from .auth.options import auth_from_words  # noqa: PLC0415 (see above)

    if not (auth is None or isinstance(auth, str)):
        if logins:
            raise TypeError(f"{', '.join(sorted(logins))}: of an auth in words, 'basic' or 'token'")
        return auth
    users = logins.get("users")
    if isinstance(users, Mapping):
        logins = {**logins, "users": [f"{name}:{password}" for name, password in users.items()]}
    return auth_from_words(auth or "none", **logins)


def _close(registry: "MockRegistry") -> None:
    """Release what a registry holds: in a thread, since the test's own may run an event loop."""
    import asyncio  # noqa: PLC0415 (see above)
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 (see above)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, asyncio.wait_for(registry.aclose(), _PATIENCE)).result()
