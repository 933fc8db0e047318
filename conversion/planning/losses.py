"""What a store would lose if it were converted anew: stored data that the source no longer has."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from zarr.abc.store import Store

from laion_zarr import _release as release
from laion_zarr._release import SubjectFiles
from laion_zarr.conversion.parts.localizers import PLACES
from laion_zarr.conversion.planning.bold import bold_arrays, run_files
from laion_zarr.conversion.planning.small_parts import KINDS, MAPS, find_parts
from laion_zarr.conversion.write.catalogue import Catalogue
from laion_zarr.store import schema
from laion_zarr.store.bounds.nodes import parse_node
from laion_zarr.store.bounds.text import MOST_NODE
from laion_zarr.store.objects import fetch


def _arrays_of(files: SubjectFiles) -> set[str]:
    """Names of the arrays that a subject's files become, without the labels beside the betas."""
    sessions = files.sessions.items()
    found = {f"{ses}/betas" for ses, its in sessions if its.betas and its.trials}
    return found.union(bold_arrays(files), *(part.arrays for part in find_parts(files)))


def _listed_sources(store: Store, subject: str) -> list[str]:
    """Source files of stored masks, ROIs, noise ceilings, localizer maps and events.

    Read from attributes, without a checksum.
    """
    arrays = [schema.localizer_maps(place).name for place in PLACES]
    nodes = [schema.VOXELS_PART, *(f"{schema.LOCALIZERS_PART}/{array}" for array in arrays)]
    keys = [f"{subject}/{node}/zarr.json" for node in (*nodes, schema.EVENTS_PART)]
    *maps, events = fetch(store, keys, [MOST_NODE] * len(keys))
    found = []
    for data in maps:
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            sources = parse_node(data or b"")["attributes"]["sources"]
            entries = sources.values() if isinstance(sources, dict) else sources
            found += [entry["source"]["file"] for entry in entries]
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        runs = parse_node(events or b"")["attributes"]["runs"]
        found += [str(release.events(subject, ses, n)) for ses, its in runs.items() for n in its]
    return found


def unlisted_losses(files: SubjectFiles, catalogue: Catalogue, names: Collection[str]) -> list[str]:
    """Stored arrays and source files of a subject that a mirror lacks; read without the manifest.

    Parameters
    ----------
    files : SubjectFiles
        Files of the subject in the mirror.
    catalogue : Catalogue
        The subject's group of the store, whose manifest is lost.
    names : collection of str
        Relative paths of the mirror's files.
    """
    series = ("ses-", schema.bold_part(""))
    kept = (*series, MAPS.stored_as, *(kind.stored_as for kind in KINDS.values()))
    there = {name for name in catalogue.arrays_on_disk() if name.startswith(kept)}
    # Arrays of labels are stored beside betas and maps, and written together with them.
    values = tuple(f"/{spec.name}" for spec in (schema.BETAS, schema.BOLD))
    labels = {n for n in there if n.startswith(series) and not n.endswith(values)}
    labels |= {n for n in there if n.endswith("/voxel")}
    labels |= {n for n in there if n.startswith(f"{schema.EVENTS_PART}/")}  # see the files
    lost = sorted(there - labels - _arrays_of(files))
    sources = _listed_sources(catalogue.store, files.subject)
    for name in there & bold_arrays(files):
        sources += run_files(catalogue.store, f"{files.subject}/{name}")
    return lost + [file for file in sources if file not in names]
