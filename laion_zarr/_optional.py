"""Packages that an extra brings."""

from __future__ import annotations

from importlib.util import find_spec


def needs(extra: str, *packages: str) -> None:
    """Raise an ImportError that names the extra, where one of its packages is missing."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ImportError(
            f"This needs {' and '.join(missing)}. Install the extra: "
            f'pip install "laion-zarr[{extra}]".'
        )
