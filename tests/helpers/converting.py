"""Conversions without a progress bar."""

from __future__ import annotations

from typing import Any

from laion_zarr import convert


def quiet(source: Any, store: Any, **options: Any) -> Any:
    """Convert; the default number of workers."""
    return convert(source, store, progress=False, **options)


def alone(source: Any, store: Any, **options: Any) -> Any:
    """Convert in this process, unless the options say otherwise."""
    return quiet(source, store, **({"n_workers": 1} | options))
