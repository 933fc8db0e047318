"""A subject of many sessions, made by linking the betas of one: size without hours."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from laion_zarr import _schema as schema
from laion_zarr._store import Part, StoredParts, open_store
from laion_zarr.conversion import pipeline
from laion_zarr.conversion import subject as recipe
from laion_zarr.conversion.write import Catalogue, PartWriter, finish_root, groups_in

FIRST = "ses-01"


def link_sessions(store: Path, subject: str, n_sessions: int) -> None:
    """Give a converted subject of one session further ones with the same betas.

    Labels, trial table, manifest and consolidated metadata are written as a conversion would; the
    shards and maps are hard links.
    """
    opened = open_store(store, read_only=False)
    catalogue = Catalogue(opened, subject)
    stored = StoredParts(opened, subject)
    table = pipeline.stored_table(stored, FIRST)
    (attributes,) = stored.attributes(FIRST)
    parts = {FIRST: catalogue.parts[FIRST]}
    maps = {}
    for n in range(2, n_sessions + 1):
        session = f"ses-{n:02d}"
        writer = PartWriter(opened, f"{subject}/{session}")
        writer.files = linked(store, parts[FIRST], writer.path, ("zarr.json", "session/c/0"))
        writer.group(attributes | {"session": session})
        writer.array(schema.SESSION_ARRAYS["session"], np.full(len(table), session, object))
        sources = parts[FIRST].sources.items()
        parts[session] = writer.part({k.replace(FIRST, session): v for k, v in sources})
        old = catalogue.parts[schema.maps_part(FIRST)]
        path = f"{subject}/{schema.maps_part(session)}"
        maps[schema.maps_part(session)] = Part(path, linked(store, old, path, ()), old.sources)
    tables = {session: table.assign(session=session) for session in parts}
    made_from = {name: {"crc32": 0} for name in parts}
    path = catalogue.place(schema.TRIALS_PART)
    trials = recipe.write_trials(opened, path, tables, None, made_from)
    catalogue.commit(parts | maps | {schema.TRIALS_PART: trials})
    finish_root(opened, groups_in(opened))


def linked(store: Path, part: Part, path: str, but: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Hard links of a part's files at another path, except those that differ there."""
    files = {key: value for key, value in part.files.items() if key not in but}
    for key in files:
        target = store / path / key
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(store / part.path / key, target)
    return files
