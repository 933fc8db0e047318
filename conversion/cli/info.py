"""What the local mirror and the store hold: facts for ``info --json``, and their text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from zarr.abc.store import Store
from zarr.storage import LocalStore

from laion_zarr import _release as release
from laion_zarr import config
from laion_zarr._words import as_size
from laion_zarr.conversion.planning.wanted import files_of, subjects_in
from laion_zarr.conversion.run.left_out import left_out
from laion_zarr.conversion.source.files import Source, open_source
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
    ROI,
    SPLITS_GROUP,
    STIMULUS_PARTS,
    TRIALS_PART,
    VOXELS_PART,
    is_bold_part,
    is_session_part,
)


def describe(
    store: StoreLike | None, storage_options: dict[str, Any] | None, subject: str | None
) -> str:
    """Text of `facts`."""
    return as_text(facts(store, storage_options, subject))


def facts(
    store: StoreLike | None, storage_options: dict[str, Any] | None, subject: str | None
) -> dict[str, Any]:
    """What the local mirror and the store hold; with `subject`, only what they hold of it.

    A store that was named, or a subject, which is not there is an error. The fields are those of
    ``schemas/info.json``.
    """
    wanted = None if subject is None else release.subject_id(subject)
    if store is not None:
        _check_there(open_store(store, storage_options))
    mirror = _mirror(wanted)
    stored = _store(store, storage_options, wanted)
    there = [one["subject"] for one in mirror["subjects"]] + [g["group"] for g in stored["groups"]]
    if wanted is not None and wanted not in there:
        raise DataNotDownloadedError(
            f"{wanted} is neither in the data directory nor in the store. Download it: laion-zarr "
            f"download --subject {wanted}."
        )
    return {"subject": wanted, "mirror": mirror, "store": stored}


def _check_there(store: Store) -> None:
    """Raise if a store on the local disk does not exist."""
    if isinstance(store, LocalStore) and not store.root.exists():
        raise NotConvertedError(
            f"{location(store)} is not there. Name the store with --store, or make it with "
            "'laion-zarr convert'."
        )


# -- facts


def _mirror(wanted: str | None) -> dict[str, Any]:
    nothing = {"subjects": [], "stimuli": {"nbytes": 0, "parts": []}}
    nothing |= {"not_listed": [], "left_out": []}
    try:
        source = open_source(config.get_data_dir())
        listing = source.listing()
        names = listing.names
    except DataDirNotSetError:
        how = "not set: 'laion-zarr config --data-dir DIR' sets it"
        return {"path": None, "reason": how, **nothing}
    except FileNotFoundError as error:
        return {"path": None, "reason": str(error), **nothing}
    parts = {part: its for kind in STIMULUS_PARTS for part, its in files_of(kind, names).items()}
    subjects = None if wanted is None else [wanted]
    unread = listing.unread.items()
    return {
        "path": str(source.root),
        "reason": None,
        "subjects": [
            _in_mirror(source, release.subject_files(subject, names), subject)
            for subject in subjects_in(names)[0]
            if wanted in (None, subject)
        ],
        "stimuli": {
            "nbytes": _nbytes(source, (path for its in parts.values() for path in its)),
            "parts": list(parts),
        },
        "not_listed": [str(error) for path, error in unread if release.is_of(path, subjects)],
        "left_out": list(left_out(listing, subjects)),
    }


def _in_mirror(source: Source, files: release.SubjectFiles, subject: str) -> dict[str, Any]:
    betas = {ses: its.betas for ses, its in files.sessions.items() if its.betas}
    return {
        "subject": subject,
        "sessions": list(betas),
        "betas_nbytes": _nbytes(source, betas.values()),
        "n_rois": len(files.rois),
        "n_localizer_maps": len(files.localizers),
        "n_event_runs": len(files.events),
        "bold_sessions": sorted({session for session, _ in files.bold}),
        "bold_nbytes": _nbytes(source, files.bold.values()),
    }


def _nbytes(source: Source, paths: Iterable[str]) -> int:
    return sum(source.size(path) for path in paths)


def _store(
    store: StoreLike | None, storage_options: dict[str, Any] | None, wanted: str | None
) -> dict[str, Any]:
    try:
        opened = open_store(config.get_store() if store is None else store, storage_options)
        _check_there(opened)
        groups = sorted({*groups_in(opened), *lost_manifests(opened)})
    except (LaionZarrError, FileNotFoundError) as error:
        unset = isinstance(error, DataDirNotSetError)
        how = "not set: name it with --store, or once with 'laion-zarr config --store S'"
        reason = how if unset else str(error)
        return {"path": None, "reason": reason, "groups": [], "is_empty": True}
    found = [_group_or_damage(opened, group) for group in groups if wanted in (None, group)]
    return {
        "path": location(opened),
        "reason": None,
        "groups": found,
        "is_empty": not groups,
    }


def _group_or_damage(store: Store, group: str) -> dict[str, Any]:
    try:
        return {"group": group, "damage": None, **_group(StoredParts(store, group))}
    except StoreError as error:
        return {"group": group, "damage": str(error)}


def _group(stored: StoredParts) -> dict[str, Any]:
    found: dict[str, Any] = {
        "nbytes": sum(n for part in stored.parts.values() for n, _ in part.files.values()),
        "parts": list(stored.parts),
        "sessions": stored.sessions,
        "localizer_maps": _localizers(stored),
    }
    if stored.sessions:
        (attributes,) = stored.attributes(VOXELS_PART, needed=["masks"])
        found["masks"] = list(attributes["masks"])
        found["n_trials"] = len(stored.load(TRIALS_PART, ["session"], needed=True)["session"])
        found["rois"] = _rois(stored)
    if EVENTS_PART in stored.parts:
        (attributes,) = stored.attributes(EVENTS_PART, needed=["runs"])
        runs = attributes["runs"]
        found["n_event_runs"] = (
            sum(map(len, runs.values())) if isinstance(runs, dict) else len(runs)
        )
    if AVERAGES_PART in stored.parts:
        n_images = stored.shape(AVERAGES_PART, MEAN.name)[0]
        found["averages"] = {"n_images": n_images, "stale": stored.stale_averages}
    if stored.group == SPLITS_GROUP:
        keys = StoredSplits(stored.store).stored()
        found["splits"] = {
            "n_splits": len(keys),
            "pools": sorted({pool for pool, *_ in keys}),
            "revisions": sorted({str(r) for _, _, r in keys if r is not None}),
        }
    return found


def _rois(stored: StoredParts) -> dict[str, list[str]]:
    """The ROIs of a subject, by category."""
    table = stored.load(VOXELS_PART, [ROI, "category"], needed=True)
    found: dict[str, list[str]] = {}
    for category, roi in sorted(zip(table["category"].tolist(), table[ROI].tolist(), strict=True)):
        found.setdefault(category, []).append(roi)
    return found


def _localizers(stored: StoredParts) -> dict[str, int]:
    """The places that have localizer maps, with the number of maps of each."""
    part = stored.parts.get(LOCALIZERS_PART)
    arrays = [] if part is None else [n for n in part.arrays() if n.endswith("/maps")]
    return {name.partition("/")[0]: stored.shape(LOCALIZERS_PART, name)[0] for name in arrays}


# -- text


def as_text(found: dict[str, Any]) -> str:
    """Text of `facts` for a terminal."""
    lines = (*_mirror_lines(found["mirror"]), *_store_lines(found["store"], found["subject"]))
    return "\n".join(map(printable, lines))


def _mirror_lines(mirror: dict[str, Any]) -> Iterator[str]:
    if mirror["path"] is None:
        yield f"Mirror: none ({mirror['reason']})"
        return
    yield f"Mirror: {mirror['path']}"
    for one in mirror["subjects"]:
        line = f"  {one['subject']}: {_span(one['sessions'])}, betas "
        line += f"{as_size(one['betas_nbytes'])}, {one['n_rois']} ROIs"
        line += f", {n} localizer maps" if (n := one["n_localizer_maps"]) else ""
        yield line + (f", events of {n} runs" if (n := one["n_event_runs"]) else "")
        if bold := one["bold_sessions"]:
            yield f"    time series: {_span(bold)}, {as_size(one['bold_nbytes'])}"
    stimuli = mirror["stimuli"]
    parts = ", ".join([as_size(stimuli["nbytes"]), *stimuli["parts"]])
    yield f"  stimuli: {parts if stimuli['parts'] else 'none'}"
    yield from (f"  not listed: {error}" for error in mirror["not_listed"])
    yield from (f"  {line}" for line in mirror["left_out"])


def _store_lines(store: dict[str, Any], wanted: str | None) -> Iterator[str]:
    if store["path"] is None:
        yield f"Store: none ({store['reason']})"
        return
    yield f"Store: {store['path']}"
    if wanted is not None and not store["groups"]:
        yield f"  {wanted}: not converted ('laion-zarr convert --subject {wanted}')"
    if store["is_empty"]:
        yield "  empty"
    for group in store["groups"]:
        if group["damage"] is None:
            yield from _group_lines(group, named=wanted is not None)
        else:
            yield f"  {group['group']}: damaged ({group['damage']})"


def _group_lines(group: dict[str, Any], named: bool) -> Iterator[str]:
    names = group["parts"]
    others = [
        name
        for name in names
        if not is_session_part(name)
        and not is_bold_part(name)
        and not name.startswith("maps/")
        and name not in (TRIALS_PART, VOXELS_PART, AVERAGES_PART)
    ]
    what = [_span(group["sessions"])] if VOXELS_PART in names else []
    yield f"  {group['group']}: {', '.join([*what, as_size(group['nbytes']), *others])}"
    if "masks" in group:
        yield f"    masks: {', '.join(group['masks'])}"
        yield f"    trials: {group['n_trials']:,}"
        yield from _roi_lines(group["rois"], named)
    if bold := sorted(name.partition("/")[2] for name in names if is_bold_part(name)):
        yield f"    time series: {_span(bold)}"
    if averages := group.get("averages"):
        yield f"    averages: {averages['n_images']:,} images"
        yield from [f"    stale: {averages['stale']}"] if averages["stale"] else []
    if "n_event_runs" in group:
        yield f"    events: {group['n_event_runs']:,} runs"
    if counts := group["localizer_maps"]:
        text = ", ".join(f"{count} {place}" for place, count in counts.items())
        yield f"    localizer maps: {text}"
    if "splits" in group:
        splits, revisions = group["splits"], ", ".join(group["splits"]["revisions"])
        yield f"    {splits['n_splits']} splits of the pools {', '.join(splits['pools'])}"
        yield f"    random_* of revision {revisions}" if revisions else "    no random_*"


def _roi_lines(rois: dict[str, list[str]], named: bool) -> Iterator[str]:
    """The number of ROIs and their categories; by name for the one subject that was named."""
    count = sum(map(len, rois.values()))
    categories = "" if named or not rois else f" ({', '.join(rois)})"
    yield f"    ROIs: {count}{categories}"
    if named:
        yield from (f"      {category}: {', '.join(its)}" for category, its in rois.items())


def _span(sessions: list[str]) -> str:
    if not sessions:
        return "no session"
    if len(sessions) == 1:
        return f"1 session ({sessions[0]})"
    return f"{len(sessions)} sessions ({sessions[0]} … {sessions[-1]})"
