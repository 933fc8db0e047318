"""Alignment of arrays by their labels, never by position."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from laion_zarr.store.schema import IMAGE, SUBJECT, TRIAL


def with_labels(values: Any, what: str) -> xr.DataArray:
    """Return `values` if they are an xarray.DataArray; raises TypeError otherwise."""
    if not isinstance(values, xr.DataArray):
        raise TypeError(
            f"{what} must be an xarray.DataArray, whose labels say what belongs together; got "
            f"{type(values).__name__}."
        )
    return values


def ordered(values: xr.DataArray, what: str, *dims: str) -> xr.DataArray:
    """Transpose `values` to `dims`; raises ValueError if these are not exactly their dims."""
    if set(with_labels(values, what).dims) != set(dims):
        instead = " Subject.get_image_betas gives them by image." if dims[0] == IMAGE else ""
        instead = instead if TRIAL in values.dims else ""
        raise ValueError(f"{what} must be {dims}, got {tuple(map(str, values.dims))}.{instead}")
    return values.transpose(*dims)


def whose(values: xr.DataArray) -> dict[str, str]:
    """Attribute that names the subject that the voxels belong to; empty if there is none."""
    return {SUBJECT: values.attrs[SUBJECT]} if SUBJECT in values.attrs else {}


def of_one_subject(first: dict[Any, Any], second: dict[Any, Any]) -> None:
    """Raise ValueError if the attributes of two arrays name different subjects."""
    subjects = [attributes.get(SUBJECT) for attributes in (first, second)]
    if None not in subjects and subjects[0] != subjects[1]:
        raise ValueError(
            f"Voxels of {subjects[0]} and of {subjects[1]} cannot be joined: the same label is "
            "another place in each brain. Compare people by image, or in a template space "
            "(to_template)."
        )


def shared(first: Any, second: xr.DataArray, dim: str) -> tuple[Any, xr.DataArray]:
    """Select from both arrays the labels that they share along `dim`, in the order of `second`."""
    given, wanted = _labels(first, dim), _labels(second, dim)
    places = given.get_indexer(wanted)
    there = places >= 0
    if not there.any():
        raise ValueError(
            f"No {dim} is in both: {_some(given)} on one side, {_some(wanted)} on the other."
        )
    if not np.array_equal(places, np.arange(len(given))):
        first = first.isel({dim: places[there]})
    return first, second if there.all() else second.isel({dim: there})


def along(values: xr.DataArray, like: xr.DataArray, dim: str, what: str) -> xr.DataArray:
    """Select `values` at the labels of `like` (betas); raises ValueError if a label is missing."""
    given, wanted = _labels(values, dim), _labels(like, dim)
    places = given.get_indexer(wanted)
    if lacking := np.count_nonzero(places < 0):
        raise ValueError(
            f"{what} lacks {lacking:,} of the {len(wanted):,} {dim} labels of the betas: it has "
            f"{_some(given)}. Take both from the same subject, and {what} of all that is stored."
        )
    return values.isel({dim: places})


def _labels(values: Any, dim: str) -> pd.Index:
    if dim not in values.indexes or not values.indexes[dim].is_unique:
        raise ValueError(
            f"Along {dim!r} there must be labels, each once, to join by; got "
            f"{'labels that come twice' if dim in values.indexes else 'none'}."
        )
    return values.indexes[dim]


def _some(labels: pd.Index) -> str:
    return f"{len(labels):,} such as {labels[:1].tolist()[0]!r}" if len(labels) else "none"
