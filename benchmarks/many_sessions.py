"""Makes a subject of many sessions quickly, by hard links to the betas of one converted session."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from laion_zarr.conversion.parts import subject as recipe
from laion_zarr.conversion.run.trial_table import stored_table
from laion_zarr.conversion.write.catalogue import Catalogue
from laion_zarr.conversion.write.root import finish_root, groups_in
from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.store import schema
from laion_zarr.store.objects import open_store
from laion_zarr.store.parts import Part, StoredParts

FIRST = "ses-01"
OWN = ("session/zarr.json", "session/c/0", "image_name/zarr.json", "image_name/c/0")


def link_sessions(
    store: Path, subject: str, n_sessions: int, names: np.ndarray | None = None
) -> None:
    """Add sessions with the same betas to a converted subject of one session.

    Labels, trial table, manifest and consolidated metadata are written as a conversion writes them;
    shards and maps are hard links. With `names`, (session, trial), each session has image names of
    its own, and the labels of the first session are written again, too.
    """
    opened = open_store(store, read_only=False)
    catalogue = Catalogue(opened, subject)
    stored = StoredParts(opened, subject)
    table = stored_table(stored, FIRST)
    (attributes,) = stored.attributes(FIRST)
    shown = np.tile(table["label"].to_numpy(), (n_sessions, 1)) if names is None else names
    parts, maps, tables = {}, {}, {}
    first = catalogue.parts[FIRST]
    for n in range(1, n_sessions + 1):
        session = f"ses-{n:02d}"
        tables[session] = table.assign(session=session, label=shown[n - 1])
        if n == 1 and names is None:
            parts[session] = first
            continue
        # Files with other content are not linked: writing to a link would change the first session.
        writer = PartWriter(opened, f"{subject}/{session}")
        writer.files = linked(store, first, writer.path, ("zarr.json", *OWN))
        writer.group(attributes | {"session": session})
        for array, column in (("session", "session"), ("image_name", "label")):
            values = tables[session][column].to_numpy(object)
            writer.array(schema.SESSION_ARRAYS[array], values)
        sources = first.sources.items()
        parts[session] = writer.part({k.replace(FIRST, session): v for k, v in sources})
        if n > 1:
            old = catalogue.parts[schema.maps_part(FIRST)]
            path = f"{subject}/{schema.maps_part(session)}"
            maps[schema.maps_part(session)] = Part(path, linked(store, old, path, ()), old.sources)
    made_from = {name: {"crc32": 0} for name in parts}
    path = catalogue.place(schema.TRIALS_PART)
    behaviour = [schema.BEHAVIOUR.name, schema.TRIAL_TYPE.name]
    found = stored.load(schema.TRIALS_PART, behaviour)  # empty if the mirror has no events
    numbers, types = (found.get(name) for name in behaviour)
    again = None
    if numbers is not None and types is not None:
        again = np.tile(numbers, n_sessions), np.tile(types, n_sessions)
    trials = recipe.write_trials(opened, path, tables, None, again, made_from)
    catalogue.commit(parts | maps | {schema.TRIALS_PART: trials})
    finish_root(opened, groups_in(opened))


def linked(store: Path, part: Part, path: str, but: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Make hard links to a part's files at another path, except to the files in `but`."""
    files = {key: value for key, value in part.files.items() if key not in but}
    for key in files:
        target = store / path / key
        if path == part.path:
            continue  # the file is already at this path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(store / part.path / key, target)
    return files
