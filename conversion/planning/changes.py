"""What of the source has changed since it was converted: files as they are now and as they were."""

from __future__ import annotations

from collections.abc import Iterable

from laion_zarr.conversion.parts.subject import Sources, with_sidecar
from laion_zarr.conversion.source.files import Source
from laion_zarr.store.parts import Part


def identities(source: Source, names: frozenset[str], paths: Iterable[str]) -> Sources:
    """What files are now, with their sidecars."""
    wanted = {name for path in paths for name in with_sidecar(source, path, names)}
    return {name: source.identity(name) for name in sorted(wanted)}


def look_ahead(source: Source, names: frozenset[str], paths: Iterable[str]) -> None:
    """Ask together for files that are looked at one after the other next."""
    source.look_ahead({n for path in paths for n in with_sidecar(source, path, names)})


def unchanged(part: Part | None, identities: Sources) -> bool:
    """Whether a part was made from just these files; files gone since do not count."""
    return part is not None and all(part.sources.get(k) == v for k, v in identities.items())
