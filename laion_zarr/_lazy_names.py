"""Names of a package that are imported at their first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` for a package that offers names of other modules (PEP 562).

    A module is imported when one of its names is first used. Importing xarray, dask and zarr takes
    most of a second, which ``import laion_zarr``, the command line's ``--help`` and a worker
    process of the converter must not wait for.

    Parameters
    ----------
    package : str
        ``__name__`` of the package.
    homes : mapping of str to str
        Name -> module that defines the name. ``__version__``, the version of laion_zarr, is always
        available.
    """

    def get(name: str) -> Any:
        if name == "__version__":
            return import_module("importlib.metadata").version("laion-zarr")
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return get, lambda: sorted([*homes, "__version__"])
