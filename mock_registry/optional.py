"""Packages that only some features need.

Owns the words for their absence. Must not import any of them.
"""


class MissingPackageError(RuntimeError):
    """A feature needs a package that is not installed.

    Args:
        package: Its name, as pip takes it.
        purpose: What it is needed for.
    """

    def __init__(self, package: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package}: pip install {package}")
        self.package = package
