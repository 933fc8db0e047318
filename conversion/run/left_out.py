"""What a run leaves out of a mirror, and what it was asked for in vain: said once in the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from laion_zarr import _release as release
from laion_zarr.conversion.options import Options, Report
from laion_zarr.conversion.parts import geometry
from laion_zarr.conversion.parts.localizers import describe
from laion_zarr.conversion.planning.subjects import Job
from laion_zarr.conversion.planning.voxel_axis import contested_rois
from laion_zarr.conversion.planning.wanted import Mirror
from laion_zarr.conversion.source.files import Listing, Source
from laion_zarr.errors import DataNotDownloadedError
from laion_zarr.store import schema

_MOST = 8  # paths or names in one line
_OF_SESSIONS = {"betas", "events", schema.BOLD_PART}  # parts from which --ses selects


def note_absent(report: Report, source: Source, options: Options, mirror: Mirror) -> None:
    """Report subjects, and parts of subjects, that were asked for, and are not in the mirror."""
    there = mirror.subjects
    for missing in sorted(set(options.subjects or ()) - set(there)):
        report.failed[missing] = DataNotDownloadedError(
            f"{missing} is not in {source.root} (there: {', '.join(there) or 'no subject'}). "
            f"Download it: laion-zarr download --subject {missing}."
        )
    if options.subjects is not None:
        return
    report.missing += [
        f"{subject}: {source.root} has files of it, but neither the mirror nor the store has its "
        f"betas and masks, so nothing is converted. Download them: laion-zarr download --subject "
        f"{subject}."
        for subject in mirror.others
    ]
    without_files_of_subjects = {*schema.STIMULUS_PARTS, schema.AVERAGES_PART}
    of_subjects = [part for part in options.parts if part not in without_files_of_subjects]
    if there or not of_subjects:
        return
    nobody = f"no subject in {source.root} (expected {release.GLM}/sub-XX)"
    asked = [*(of_subjects if options.asked_parts else ())]
    asked += (options.sessions or ()) if _OF_SESSIONS & set(of_subjects) else ()
    for what in asked:
        report.failed[what] = DataNotDownloadedError(
            f"{nobody}. Download one: laion-zarr download --subject sub-01."
        )
    if not asked:
        report.missing.append(f"{nobody}.")


def note_left_out(report: Report, source: Source, options: Options, listing: Listing) -> None:
    """Report what cannot be listed, and what looks like data of the dataset and is not read."""
    for number, (folder, error) in enumerate(listing.unread.items(), 1):
        if release.is_of(folder, options.subjects):
            subject = _whose_masks(folder, options.mask)
            name = "folder" if number == 1 else f"folder {number}"
            report.failed[subject or name] = error
    report.missing += left_out(listing, options.subjects)


def _whose_masks(folder: str, mask: str) -> str | None:
    """Subject whose voxels cannot be chosen while a folder cannot be listed; None if there is none.

    As with a mask that cannot be read: without it, the voxels would be others.
    """
    subject = release.subject_of(f"{folder}/")
    if subject is None:
        return None
    masks = {
        "anatomical": release.anatomy(subject, "brain_mask", release.FUNCTIONAL_RES),
        "rsquare": release.r2mean(subject),
    }
    wanted = (path for name, path in masks.items() if mask in (name, "both"))
    return subject if any(folder in map(str, path.parents) for path in wanted) else None


def left_out(listing: Listing, subjects: list[str] | None = None) -> Iterator[str]:
    """A line for each reason why some files or folders of a mirror are not read."""
    reasons = release.stray_files(listing.names)
    like = "called like a folder of the release, and not as one"
    counted = {folder.rstrip("/") for its in reasons.values() for folder in its}
    reasons[like] = {f"{path}/": 0 for path in listing.resembling if path not in counted}
    reasons["empty, where data are expected"] = {f"{path}/": 0 for path in listing.empty}
    for reason, found in reasons.items():
        its = {path: n for path, n in found.items() if release.is_of(path, subjects)}
        if its:
            yield f"not read: {_listed(its)}: {reason}. {_mend(reason)}"


def _listed(found: Mapping[str, int]) -> str:
    """Paths with the numbers of files that they stand for; the first of many."""
    shown = [_named(path, count) for path, count in list(found.items())[:_MOST]]
    more = len(found) - len(shown)
    what = "folders" if all(path.endswith("/") for path in found) else "files or folders"
    start = f"{len(found)} {what}, " if len(found) > 1 else ""
    return start + ", ".join(shown) + (f" and {more} more" if more else "")


def _named(path: str, count: int) -> str:
    if path.endswith("/"):
        return f"{path} ({count} file{'s' * (count != 1)})" if count else path
    return f"{path} and {count - 1} like it" if count > 1 else path


def _mend(reason: str) -> str:
    if reason.startswith("empty"):
        return "Download what belongs there, or remove it."
    if reason == release.TWIN:
        return "Move one of the two away."
    return "Rename it as the release does, or move it away."


def note_lacking(report: Report, source: Source, options: Options, job: Job) -> None:
    """Report which files of a subject the mirror lacks, and what cannot be used of those it has.

    Of parts that are not wanted, files may not have been listed.
    """
    files, subject, parts = job.files, job.subject, options.parts
    lacking = {
        "sessions": not files.sessions,
        "anatomical brain mask": ("brain_mask", release.FUNCTIONAL_RES) not in files.anatomy,
        "R2mean map (rsquare brain mask)": files.r2mean is None,
        "ROIs": not files.rois and not files.contested,
        "localizer maps": schema.LOCALIZERS_PART in parts and not files.localizers,
        "cross-session noise ceilings": not files.noise_ceilings,
        "T1w image": ("t1w", release.FUNCTIONAL_RES) not in files.anatomy,
        "FreeSurfer recon": schema.GEOMETRY_PART in parts and not files.recon,
        "events": schema.EVENTS_PART in parts and not files.events,
    }
    report.missing += [
        f"{subject}: no {what} in {source.root}." for what, lacks in lacking.items() if lacks
    ]
    for rois, error in contested_rois(source, files).items():
        report.failed[f"{subject} {_some('ROI', rois)}"] = error
    report.missing += [f"{subject}: {text}." for text in _incomplete(job)]


def _incomplete(job: Job) -> Iterator[str]:
    """Remarks on ROIs, localizer maps and surfaces of which something is missing."""
    files, axis = job.files, job.axis
    if flat := [roi for roi, its in files.rois.items() if its.volume is None]:
        yield f"no volume mask of {_some('ROI', flat)}"
    outside = [roi for roi, (_, mask) in axis.rois.items() if not mask[axis.voxels].any()]
    if outside:
        yield (
            f"no voxel of {_some('ROI', sorted(outside))} is stored: the mask is empty, or lies "
            "outside the brain masks"
        )
    of_rois = {(roi, hemi) for roi, its in files.rois.items() for hemi, _ in its.surfaces}
    of_maps = {
        (describe(replace(what, place="")).strip(), what.place)
        for what in files.localizers
        if what.place in release.HEMIS
    }
    for kind, found in (("ROI", of_rois), ("localizer map", of_maps)):
        for hemi, other in (release.HEMIS, release.HEMIS[::-1]):
            if alone := sorted(
                name for name, its in found if its == hemi and (name, other) not in found
            ):
                yield f"no hemi-{other} of {_some(kind, alone)}, only hemi-{hemi}"
    recon = {(hemi, name) for hemi in release.HEMIS for name in release.RECON_GEOMETRY}
    if files.recon and (lost := sorted(geometry.label(*key) for key in recon - set(files.recon))):
        yield f"its FreeSurfer recon lacks {', '.join(lost)}"


def _some(kind: str, names: Sequence[str]) -> str:
    """Names in a list; the first of many."""
    if len(names) == 1:
        return f"{kind} {names[0]}"
    more = len(names) - _MOST
    return f"{len(names)} {kind}s, {', '.join(names[:_MOST])}" + (f" and {more} more" * (more > 0))
