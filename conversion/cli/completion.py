"""Values that the shell completes: subjects, sessions and ROI categories of the store.

Called at each TAB, so only small JSON files of a store on this disk are read, without zarr, which
takes a second to import; a store at a URL is not asked. What cannot be read gives no candidates.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cyclopts.completion import CompletionContext

from laion_zarr import _release as release
from laion_zarr import config
from laion_zarr.errors import LaionZarrError
from laion_zarr.store.schema import MANIFEST, VOXELS_PART, is_session_part

_UNREADABLE = (LaionZarrError, OSError, ValueError, KeyError, TypeError, AttributeError)


def subjects(context: CompletionContext) -> dict[str, str]:
    """Subjects of the store, each with its number of sessions."""
    found = {path.name: _sessions(path) for path in _groups(context)}
    return {name: f"{len(its)} sessions" if its else "" for name, its in found.items()}


def sessions(context: CompletionContext) -> list[str]:
    """Sessions in the store: of the subjects that the command line names, or of all."""
    return sorted({session for path in _groups(context) for session in _sessions(path)})


def categories(context: CompletionContext) -> dict[str, str]:
    """Categories of ROIs in the store, each with its ROIs."""
    found: dict[str, set[str]] = {}
    for path in _groups(context):
        for roi, category in _rois(path):
            found.setdefault(category, set()).add(roi)
    return {category: ", ".join(sorted(its)) for category, its in sorted(found.items())}


def _groups(context: CompletionContext) -> Iterator[Path]:
    """Folders of the subjects in the store; of those named before, unless one is completed now."""
    try:
        place = context.get("--store")
        named = context.get("--subject")
        store = place.raw if place and place.raw else config.get_store()
        if "://" in store.removeprefix("file://"):
            return
        folder = Path(store.removeprefix("file://")).expanduser()
        asked = set()
        if named and context.argument is not named.argument and "all" not in named.raw_tokens:
            asked = {release.subject_id(token) for token in named.raw_tokens}
        for path in sorted(folder.glob(f"sub-*/{MANIFEST}")):
            if not asked or path.parent.name in asked:
                yield path.parent
    except _UNREADABLE:
        return


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _sessions(group: Path) -> list[str]:
    try:
        return sorted(filter(is_session_part, _read(group / MANIFEST)["parts"]))
    except _UNREADABLE:
        return []


def _rois(group: Path) -> list[tuple[str, str]]:
    """ROIs and their categories, from the names of the files that they were made from."""
    try:
        part = _read(group / MANIFEST)["parts"][VOXELS_PART]["path"]
        sources = _read(group.parent / part / "zarr.json")["attributes"]["sources"]
        files = [entry["source"]["file"] for entry in sources.values()]
        rois = release.subject_files(group.name, files).rois
        return [(roi, its.category) for roi, its in rois.items()]
    except _UNREADABLE:
        return []
