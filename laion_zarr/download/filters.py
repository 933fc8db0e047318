"""Filters by BIDS entity that select keys of the bucket: pure functions on names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from laion_zarr import _release as release
from laion_zarr._release import Id

AVERAGES = "averages"
_NUMBERED = ("ses", "run", "echo")  # as ids: 4 and "4" are "04"; the number of an echo is "4"
# Filter given by a user: a value or several, each bare ("04") or with its entity ("ses-04").
Given = Id | Iterable[Id] | None
Filters = Mapping[str, frozenset[str]]


def one_or_many(given: object, name: str) -> list[str]:
    """One string or several strings as a list; `name` is the argument named in errors."""
    values = [given] if isinstance(given, str) else given
    if not isinstance(values, list | tuple | set | frozenset) or not values:
        raise ValueError(f"{name}={given!r}: expected a string or a list of strings.")
    if wrong := [value for value in values if not isinstance(value, str) or not value]:
        raise ValueError(f"{name}: expected a string or a list of strings, found {wrong[0]!r}.")
    return list(values)


def _numbered(values: Given, name: str) -> object:
    """Ids as file names have them, as a list."""
    several = values if isinstance(values, Iterable) and not isinstance(values, str) else [values]
    return [str(one) if name == "echo" else release.padded(one) for one in several]


def parse(given: Mapping[str, Given]) -> Filters:
    """Convert the user's filters to sets of bare values; filters that are None are left out."""
    filters = {}
    for name, values in given.items():
        if values is not None:
            listed = one_or_many(_numbered(values, name) if name in _NUMBERED else values, name)
            bare = [value.removeprefix(f"{name}-") for value in listed]
            filters[name] = frozenset(value.lstrip(".") for value in bare)
    held_out = [ses for ses in sorted(filters.get("ses", ())) if release.is_held_out(f"ses-{ses}")]
    if held_out:
        raise ValueError(
            f"ses-{held_out[0]} is held out from the public: the bucket refuses it. Name sessions "
            "from ses-01 to ses-30."
        )
    return filters


def _value(name: str, key: release.KeyName) -> str | None:
    if name in ("suffix", "extension"):
        return getattr(key, name) or None
    return key.entities.get(name)


def matches(key: str, filters: Filters) -> bool:
    """Whether a key has one of the values of each filter, or lacks the entity (except `ses`)."""
    parsed = release.parse_key(key)
    for name, wanted in filters.items():
        value = _value(name, parsed)
        if name == "ses":  # a key without session passes only if "averages" is wanted
            value = AVERAGES if value is None else value
        if value is not None and value not in wanted:
            return False
    return True


def check(filters: Filters, keys: Iterable[str], subjects: str) -> None:
    """Raise `ValueError` for a filter value that no key has; the message lists existing values."""
    parsed = [release.parse_key(key) for key in keys]
    for name, wanted in filters.items():
        there = {value for key in parsed if (value := _value(name, key)) is not None}
        if name == "ses":
            there.add(AVERAGES)
        if unknown := sorted(wanted - there):
            raise ValueError(
                f"No file of {subjects} has {name}={unknown[0]!r}. Name one or more of: "
                f"{', '.join(sorted(there))}."
            )
