"""Text of ``laion-zarr info``: what the local mirror and the store hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zarr.abc.store import Store
from zarr.storage import LocalStore

from laion_zarr import _release as release
from laion_zarr import config
from laion_zarr.conversion.planning.wanted import files_of, subjects_in
from laion_zarr.conversion.run.left_out import left_out
from laion_zarr.conversion.source.files import open_source
from laion_zarr.conversion.write.root import groups_in, lost_manifests
from laion_zarr.errors import (
    DataDirNotSetError,
    DataNotDownloadedError,
    LaionZarrError,
    NotConvertedError,
    StoreError,
)
from laion_zarr.splits.stored import StoredSplits
from laion_zarr.store.bounds.text import printable
from laion_zarr.store.objects import StoreLike, location, open_store
from laion_zarr.store.parts import StoredParts
from laion_zarr.store.schema import (
    AVERAGES_PART,
    EVENTS_PART,
    LOCALIZERS_PART,
    MEAN,
    SPLITS_GROUP,
    STIMULUS_PARTS,
    TRIALS_PART,
    VOXELS_PART,
    is_bold_part,
    is_session_part,
)

_NOT_CONVERTED = "not converted"


def describe(
    store: StoreLike | None, storage_options: dict[str, Any] | None, subject: str | None
) -> str:
    """Describe the local mirror and the store; with `subject`, only what they hold of it.

    A store that was named, or a subject, which is not there is an error.
    """
    wanted = None if subject is None else release.subject_id(subject)
    if store is not None:
        _check_there(open_store(store, storage_options))
    mirror = list(_mirror_lines(wanted))
    stored = list(_store_lines(store, storage_options, wanted))
    about = [line for line in (*mirror, *stored) if line.startswith(f"  {wanted}: ")]
    if wanted is not None and all(_NOT_CONVERTED in line for line in about):
        raise DataNotDownloadedError(
            f"{wanted} is neither in the data directory nor in the store. Download it: laion-zarr "
            f"download --subject {wanted}."
        )
    return "\n".join(map(printable, (*mirror, *stored)))


def _check_there(store: Store) -> None:
    """Raise if a store on the local disk does not exist."""
    if isinstance(store, LocalStore) and not store.root.exists():
        raise NotConvertedError(
            f"{location(store)} is not there. Name the store with --store, or make it with "
            "'laion-zarr convert'."
        )


def _mirror_lines(wanted: str | None) -> Iterator[str]:
    try:
        source = open_source(config.get_data_dir())
        listing = source.listing()
        names = listing.names
    except (DataDirNotSetError, FileNotFoundError) as error:
        yield f"Mirror: none ({error})"
        return
    yield f"Mirror: {source.root}"
    for subject in subjects_in(names)[0]:
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
    subjects = None if wanted is None else [wanted]
    unread = (error for path, error in listing.unread.items() if release.is_of(path, subjects))
    yield from (f"  not listed: {error}" for error in unread)
    yield from (f"  {line}" for line in left_out(listing, subjects))


def _store_lines(
    store: StoreLike | None, storage_options: dict[str, Any] | None, wanted: str | None
) -> Iterator[str]:
    try:
        opened = open_store(config.get_store() if store is None else store, storage_options)
        _check_there(opened)
        groups = sorted({*groups_in(opened), *lost_manifests(opened)})
    except (LaionZarrError, FileNotFoundError) as error:
        yield f"Store: none ({error})"
        return
    yield f"Store: {location(opened)}"
    if wanted is not None and wanted not in groups:
        yield f"  {wanted}: {_NOT_CONVERTED} ('laion-zarr convert --subject {wanted}')"
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
        and name not in (TRIALS_PART, VOXELS_PART, AVERAGES_PART)
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
    yield from _averages_lines(stored)
    if EVENTS_PART in stored.parts:
        (attributes,) = stored.attributes(EVENTS_PART, needed=["runs"])
        runs = attributes["runs"]
        count = sum(map(len, runs.values())) if isinstance(runs, dict) else len(runs)
        yield f"    events: {count:,} runs"
    yield from _localizer_lines(stored)
    if stored.group == SPLITS_GROUP:
        keys = StoredSplits(stored.store).stored()
        revisions = sorted({str(revision) for _, _, revision in keys if revision is not None})
        pools = ", ".join(sorted({pool for pool, *_ in keys}))
        yield f"    {len(keys)} splits of the pools {pools}"
        yield f"    random_* of revision {', '.join(revisions)}" if revisions else "    no random_*"


def _averages_lines(stored: StoredParts) -> Iterator[str]:
    if AVERAGES_PART in stored.parts:
        message = stored.stale_averages
        yield f"    averages: {stored.shape(AVERAGES_PART, MEAN.name)[0]:,} images"
        yield from [f"    stale: {message}"] if message else []


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
