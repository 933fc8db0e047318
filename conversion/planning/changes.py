"""Compare source files as they are now with the files that a stored part was made from."""

from __future__ import annotations

from collections.abc import Iterable

from laion_zarr.conversion.parts.subject import Sources, with_sidecar
from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.source.identity import same_version
from laion_zarr.store.parts import Part


def identities(source: Source, names: frozenset[str], paths: Iterable[str]) -> Sources:
    """Current identities (size, checksums) of files and of their sidecars."""
    wanted = {name for path in paths for name in with_sidecar(source, path, names)}
    return {name: source.identity(name) for name in sorted(wanted)}


def look_ahead(source: Source, names: frozenset[str], paths: Iterable[str]) -> None:
    """Request the identities of files and sidecars concurrently, before they are used."""
    source.look_ahead({n for path in paths for n in with_sidecar(source, path, names)})


def unchanged(part: Part | None, identities: Sources) -> bool:
    """Whether a part was made from these file versions; its sources that are gone are ignored."""
    return part is not None and all(
        same_version(part.sources.get(name), identity) for name, identity in identities.items()
    )
