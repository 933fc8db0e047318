"""Text of ``laion-zarr info``: what the local mirror and the store hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from laion_zarr import _release as release
from laion_zarr import config
from laion_zarr.conversion.planning.wanted import files_of
from laion_zarr.conversion.source.files import open_source
from laion_zarr.conversion.write.root import groups_in, lost_manifests
from laion_zarr.errors import DataDirNotSetError, LaionZarrError, StoreError
from laion_zarr.store.bounds.text import printable
from laion_zarr.store.objects import StoreLike, location, open_store
from laion_zarr.store.parts import StoredParts
from laion_zarr.store.schema import (
    EVENTS_PART,
    LOCALIZERS_PART,
    STIMULUS_PARTS,
    TRIALS_PART,
    VOXELS_PART,
    is_bold_part,
    is_session_part,
)


def describe(
    store: StoreLike | None, storage_options: dict[str, Any] | None, subject: str | None
) -> str:
    """Describe the local mirror and the store; with `subject`, only what they hold of it."""
    wanted = None if subject is None else release.subject_id(subject)
    lines = [*_mirror_lines(wanted), *_store_lines(store, storage_options, wanted)]
    return "\n".join(map(printable, lines))


def _mirror_lines(wanted: str | None) -> Iterator[str]:
    try:
        source = open_source(config.get_data_dir())
        names = frozenset(source.listing())
    except (DataDirNotSetError, FileNotFoundError) as error:
        yield f"Mirror: none ({error})"
        return
    yield f"Mirror: {source.root}"
    subjects = sorted({n.split("/")[2] for n in names if n.startswith(f"{release.GLM}/sub-")})
    for subject in subjects:
        if wanted in (None, subject):
            files = release.subject_files(subject, names)
            betas = {ses: its.betas for ses, its in files.sessions.items() if its.betas}
            size = sum(source.size(path) for path in betas.values())
            span, rois = _span(list(betas)), len(files.rois)
            line = f"  {subject}: {span}, betas {_gigabytes(size)}, {rois} ROIs"
            line += f", {len(files.localizers)} localizer maps" if files.localizers else ""
            yield line + (f", events of {len(files.events)} runs" if files.events else "")
            if files.bold:
                size = sum(source.size(path) for path in files.bold.values())
                sessions = _span(sorted({session for session, _ in files.bold}))
                yield f"    time series: {sessions}, {_gigabytes(size)}"
    parts = {part: its for kind in STIMULUS_PARTS for part, its in files_of(kind, names).items()}
    size = sum(source.size(path) for its in parts.values() for path in its)
    yield f"  stimuli: {', '.join([_gigabytes(size), *parts]) if parts else 'none'}"


def _store_lines(
    store: StoreLike | None, storage_options: dict[str, Any] | None, wanted: str | None
) -> Iterator[str]:
    try:
        opened = open_store(config.get_store() if store is None else store, storage_options)
        groups = sorted({*groups_in(opened), *lost_manifests(opened)})
    except (LaionZarrError, FileNotFoundError) as error:
        yield f"Store: none ({error})"
        return
    yield f"Store: {location(opened)}"
    if wanted is not None and wanted not in groups:
        yield f"  {wanted}: not converted ('laion-zarr convert --subject {wanted}')"
    if not groups:
        yield "  empty"
    for group in groups:
        if wanted in (None, group):
            try:
                yield from list(_group_lines(StoredParts(opened, group)))
            except StoreError as error:
                yield f"  {group}: damaged ({error})"


def _group_lines(stored: StoredParts) -> Iterator[str]:
    size = sum(nbytes for part in stored.parts.values() for nbytes, _ in part.files.values())
    sessions = stored.sessions
    others = [
        name
        for name in stored.parts
        if not is_session_part(name)
        and not is_bold_part(name)
        and not name.startswith("maps/")
        and name not in (TRIALS_PART, VOXELS_PART)
    ]
    what = [_span(sessions)] if VOXELS_PART in stored.parts else []
    yield f"  {stored.group}: {', '.join([*what, _gigabytes(size), *others])}"
    if sessions:
        (attributes,) = stored.attributes(VOXELS_PART, needed=["masks"])
        yield f"    masks: {', '.join(attributes['masks'])}"
        trials = stored.load(TRIALS_PART, ["session"], needed=True)["session"]
        yield f"    trials: {len(trials):,}"
    if bold := sorted(name.partition("/")[2] for name in stored.parts if is_bold_part(name)):
        yield f"    time series: {_span(bold)}"
    if EVENTS_PART in stored.parts:
        (attributes,) = stored.attributes(EVENTS_PART, needed=["runs"])
        runs = attributes["runs"]
        count = sum(map(len, runs.values())) if isinstance(runs, dict) else len(runs)
        yield f"    events: {count:,} runs"
    yield from _localizer_lines(stored)


def _localizer_lines(stored: StoredParts) -> Iterator[str]:
    """The places that have localizer maps, with the number of maps of each."""
    part = stored.parts.get(LOCALIZERS_PART)
    arrays = [] if part is None else [n for n in part.arrays() if n.endswith("/maps")]
    counts = {name.partition("/")[0]: stored.shape(LOCALIZERS_PART, name)[0] for name in arrays}
    if counts:
        text = ", ".join(f"{count} {place}" for place, count in counts.items())
        yield f"    localizer maps: {text}"


def _span(sessions: list[str]) -> str:
    if not sessions:
        return "no session"
    if len(sessions) == 1:
        return f"1 session ({sessions[0]})"
    return f"{len(sessions)} sessions ({sessions[0]} … {sessions[-1]})"


def _gigabytes(nbytes: int) -> str:
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"
