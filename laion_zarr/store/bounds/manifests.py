"""What a manifest lists: parts, objects with size and checksum, source files."""

from __future__ import annotations

from typing import Any

from laion_zarr.store.bounds.text import MOST_TEXT, OutOfBounds, check_keys, kind, whole
from laion_zarr.store.schema import STAGING

_MOST_BYTES = 1 << 46  # of an object
_CRC = (1 << 32) - 1


def check_manifest(manifest: dict[str, Any], group: str) -> None:
    """Raise OutOfBounds unless the entries of a manifest are those of `group`, or of the root.

    Every path leads to an object below the group itself, or to the place in the staging group where
    a new version of a part waits.
    """
    check_files(manifest.get("files"))
    if not whole(manifest.get("crc32c"), _CRC):
        raise OutOfBounds("has no checksum")
    if not group:
        groups = manifest.get("groups")
        if not isinstance(groups, list):
            raise OutOfBounds(f"has {kind(groups)} for its groups, expected a list")
        check_keys(groups)
        if any("/" in name for name in groups):
            raise OutOfBounds("lists a group that is not at the root")
        return
    parts = _object(manifest.get("parts"), "parts")
    check_keys(parts)
    for name, entry in parts.items():
        path = _object(entry, f"part {name!r}").get("path")
        if path not in (f"{group}/{name}", f"{STAGING}/{group}/{name}"):
            raise OutOfBounds(
                f"has its part {name!r} at {str(path)[:200]!r}, expected {f'{group}/{name}'!r}"
            )
        check_files(entry.get("files"))
        _check_sources(entry.get("sources"))


def check_files(files: Any) -> None:
    """Raise OutOfBounds unless files are paths that lead downwards, with size and CRC-32 each."""
    check_keys(_object(files, "files"))
    for key, entry in files.items():
        if (
            not isinstance(entry, list)
            or len(entry) != 2
            or not whole(entry[0], MOST_TEXT if key.endswith("zarr.json") else _MOST_BYTES)
            or not whole(entry[1], _CRC)
        ):
            raise OutOfBounds(f"has no size and checksum for {key!r}")


def _check_sources(sources: Any) -> None:
    check_source_names(_object(sources, "sources"))
    for name, identity in sources.items():
        numbers = _object(identity, f"source {name!r}").values()
        if not all(whole(number, (1 << 64) - 1) for number in numbers):
            raise OutOfBounds(f"has no size and checksum for the source file {name!r}")


def check_source_names(names: Any) -> None:
    """Raise OutOfBounds unless all names are those of files below the folder of the dataset."""
    for name in names:
        parts = name.split("/") if isinstance(name, str) else [""]
        if not all(parts) or {".", ".."} & set(parts) or "\\" in name or not name.isprintable():
            raise OutOfBounds(f"names the source file {str(name)[:200]!r}, outside of the dataset")


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise OutOfBounds(f"has {kind(value)} for its {what}, expected an object")
    return value
