"""The whole conversion: plan every subject, then write part after part, each whole or not at all."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm
from zarr.abc.store import Store
from zarr.storage import LocalStore

from laion_zarr import _codec, config
from laion_zarr import _layout as layout
from laion_zarr import _schema as schema
from laion_zarr._layout import SubjectFiles, session_id, subject_id
from laion_zarr._store import Part, StoredParts, StoreLike, location, open_store
from laion_zarr.conversion import subject as recipe
from laion_zarr.conversion.plan import (
    MASK_CHOICES,
    PARTS,
    SessionSize,
    WorkPlan,
    plan_work,
)
from laion_zarr.conversion.session import SessionTask, check_betas
from laion_zarr.conversion.sources import Source, open_source
from laion_zarr.conversion.subject import Sources, VoxelAxis
from laion_zarr.conversion.workers import run
from laion_zarr.conversion.write import (
    Catalogue,
    finish_root,
    groups_in,
    locked,
    prepare_root,
)
from laion_zarr.errors import (
    DataNotDownloadedError,
    LaionZarrError,
    SourceError,
    StoreError,
)

log = logging.getLogger("laion_zarr")

# Measured: betas shrink to 0.90-0.95 of their raw size; the rest is small beside them.
_PACKED = 0.95
_SPARE = 64 << 20
_PROBLEMS = (LaionZarrError, OSError, MemoryError)


@dataclass(frozen=True)
class Options:
    """What the user asked for, checked; goes down unchanged.

    Attributes
    ----------
    subjects, sessions : list of str or None
        Ids; None for all that the mirror has.
    parts : tuple of str
        Some of `PARTS`.
    asked_parts : bool
        Whether the user named the parts: then a missing one is a failure.
    mask : str
        One of `MASK_CHOICES`.
    n_workers : int or None
        Worker processes.
    memory : str, int or None
        For all workers together.
    overwrite : bool
        Convert anew what is there.
    """

    subjects: list[str] | None
    sessions: list[str] | None
    parts: tuple[str, ...]
    asked_parts: bool
    mask: str
    n_workers: int | None
    memory: str | int | None
    overwrite: bool


@dataclass
class Report:
    """What a conversion did.

    Attributes
    ----------
    converted, unchanged : list of str
        Parts written, and parts that were there already.
    missing : list of str
        What the mirror lacks; no failure unless it was asked for.
    failed : dict of str to Exception
        What could not be converted, and why.
    planned : list of str
        What would be done, one line each (of a dry run).
    disk_nbytes : int
        Disk needed, upper bound.
    """

    converted: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)
    planned: list[str] = field(default_factory=list)
    disk_nbytes: int = 0

    def raise_failures(self) -> None:
        """Raise what failed: one error as it is, several as one that lists them."""
        errors = list(self.failed.values())
        if len(errors) == 1:
            raise errors[0]
        if errors:
            lines = "\n".join(f"- {what}: {error}" for what, error in self.failed.items())
            kind = SourceError if all(isinstance(e, SourceError) for e in errors) else LaionZarrError
            raise kind(f"{len(errors)} parts could not be converted; the rest is done.\n{lines}")


@dataclass
class Job:
    """One subject's work."""

    subject: str
    files: SubjectFiles
    catalogue: Catalogue
    axis: VoxelAxis
    voxels_changed: bool
    together: bool  # the voxel order changes: all parts or none
    tasks: list[SessionTask] = field(default_factory=list)
    sizes: list[SessionSize] = field(default_factory=list)
    small: dict[str, Callable[[str], Part]] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


def convert(
    source: str | Path | None = None,
    store: StoreLike | None = None,
    subjects: str | Sequence[str] | None = None,
    sessions: str | Sequence[str] | None = None,
    parts: str | Sequence[str] | None = None,
    *,
    mask: str = "both",
    n_workers: int | None = None,
    memory: str | int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    storage_options: dict[str, Any] | None = None,
    progress: bool = True,
) -> Report:
    """Convert a mirror of LAION-fMRI into the store.

    What is done already and unchanged is skipped; what a killed run left half-done is done again.
    One bad file fails only what needs it.

    Parameters
    ----------
    source : str or Path, optional
        Data directory. If not provided, `laion_zarr.config.get_data_dir`.
    store : str, Path or zarr.abc.store.Store, optional
        Where to write. If not provided, `laion_zarr.config.get_store`.
    subjects, sessions : str or list of str, optional
        What to convert. If not provided, all that the mirror has.
    parts : str or list of str, optional
        Some of ``betas``, ``anatomy``, ``surfaces``, ``metadata``. If not provided, all.
    mask : {"both", "anatomical", "rsquare"}
        Voxels to store: the union of both brain masks, or one of them.
    n_workers : int, optional
        Worker processes. If not provided, as many as cores and sessions.
    memory : str or int, optional
        For all workers together, such as ``"4GiB"``. If not provided, 2 GiB each.
    overwrite : bool
        Convert anew; the old is removed when the new is whole.
    dry_run : bool
        Only say what would be done.
    storage_options : dict, optional
        For a store at an fsspec URL.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Report
        What was converted, unchanged and missing.

    Raises
    ------
    SourceError
        If a source file is damaged or contradicts another; all else is converted first.
    DataNotDownloadedError
        If there is nothing to convert, or what was asked for is not in the mirror.

    Examples
    --------
    >>> from laion_zarr import convert
    >>> convert("/data/laion-fmri", subjects="01", n_workers=4)  # doctest: +SKIP
    """
    report = run_conversion(
        open_source(source or config.get_data_dir()),
        config.get_store() if store is None else store,
        storage_options,
        _options(subjects, sessions, parts, mask, n_workers, memory, overwrite),
        dry_run,
        progress,
    )
    report.raise_failures()
    return report


def _options(
    subjects: Any, sessions: Any, parts: Any, mask: str, n_workers: Any, memory: Any, overwrite: bool
) -> Options:
    def listed(value: Any) -> list[str] | None:
        return None if value is None else [value] if isinstance(value, str) else list(value)

    asked = listed(parts)
    if unknown := set(asked or ()) - set(PARTS):
        raise ValueError(f"Unknown parts {sorted(unknown)}. Parts: {', '.join(PARTS)}.")
    if mask not in MASK_CHOICES:
        raise ValueError(f"mask must be one of {list(MASK_CHOICES)}, got {mask!r}.")
    wanted = listed(subjects)
    if wanted == ["all"]:
        wanted = None
    return Options(
        None if wanted is None else [subject_id(s) for s in wanted],
        None if sessions is None else [session_id(s) for s in listed(sessions) or ()],
        tuple(asked or PARTS),
        asked is not None,
        mask,
        n_workers,
        memory,
        overwrite,
    )


def run_conversion(
    source: Source,
    store_like: StoreLike,
    storage_options: dict[str, Any] | None,
    options: Options,
    dry_run: bool,
    progress: bool,
) -> Report:
    """`convert` that reports failures instead of raising them."""
    names = frozenset(source.listing())
    subjects = _subjects_in(names)
    if not subjects and str(layout.STIMULUS_METADATA) not in names:
        raise DataNotDownloadedError(
            f"{source.root} holds nothing of LAION-fMRI (expected {layout.GLM}/sub-XX). Name the "
            "data directory with --source, or download with 'laion-zarr download'."
        )
    store = open_store(store_like, storage_options, read_only=False)
    report = Report()
    for missing in sorted(set(options.subjects or ()) - set(subjects)):
        report.failed[missing] = DataNotDownloadedError(
            f"{missing} is not in {source.root} (there: {', '.join(subjects) or 'no subject'}). "
            f"Download it: laion-zarr download --subject {missing}."
        )
    wanted = [s for s in subjects if options.subjects is None or s in options.subjects]
    conversion = _Conversion(source, names, store_like, storage_options, store, options, report)
    if dry_run:
        conversion.plan(wanted)
        return report
    _check_writable(store)
    with locked(store, lambda: log.warning(
        "Another converter is at work on %s; waiting for it.", location(store)
    )) as lock:
        prepare_root(store)
        conversion.execute(wanted, lock, progress)
    return report


def _subjects_in(names: Iterable[str]) -> list[str]:
    pattern = re.compile(rf"{layout.GLM}/(sub-[A-Za-z0-9]+)/")
    return sorted({match[1] for match in map(pattern.match, names) if match})


def _check_writable(store: Store) -> None:
    if isinstance(store, LocalStore):
        try:
            store.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{store.root} cannot be created: {error.strerror}. Name another place with "
                "--store, or mend the permissions."
            ) from error


def _fingerprint(part: Part) -> dict[str, int]:
    return {"crc32c": _codec.crc32c(json.dumps(part.to_json()["files"], sort_keys=True).encode())}


def _unchanged(part: Part | None, identities: Sources) -> bool:
    """Whether a part was made from just these files; files gone since do not count."""
    return part is not None and all(part.sources.get(k) == v for k, v in identities.items())


@dataclass
class _Conversion:
    """One run over one store."""

    source: Source
    names: frozenset[str]
    store_like: StoreLike
    storage_options: dict[str, Any] | None
    store: Store
    options: Options
    report: Report

    # -- planning: reads, never writes

    def plan(self, subjects: Sequence[str]) -> list[Job]:
        """Decide what each subject needs."""
        jobs = []
        for subject in subjects:
            try:
                jobs.append(self._plan_subject(subject))
            except _PROBLEMS as error:
                self.report.failed[subject] = error
        work = self._work_plan(jobs)
        for job in jobs:
            job.tasks = [
                replace(task, in_memory=work.in_memory(size))
                for task, size in zip(job.tasks, job.sizes, strict=True)
            ]
            self._describe(job)
        return jobs

    def _work_plan(self, jobs: Sequence[Job]) -> WorkPlan:
        sizes = [size for job in jobs for size in job.sizes]
        work = plan_work(sizes, self.options.n_workers, self.options.memory)
        packed = sum(int(size.matrix_nbytes * _PACKED) for size in sizes)
        scratch = sorted(size.matrix_nbytes for size in sizes if not work.in_memory(size))
        self.report.disk_nbytes = packed + sum(scratch[-work.n_workers :])
        self._n_workers = work.n_workers
        return work

    def _describe(self, job: Job) -> None:
        if job.voxels_changed:
            self.report.planned.append(f"{job.subject} voxels: {len(job.axis.voxels):,}")
        for task, size in zip(job.tasks, job.sizes, strict=True):
            where = "in memory" if task.in_memory else "through a scratch file"
            self.report.planned.append(
                f"{job.subject} {task.session}: {size.n_trials:,} trials × {size.n_voxels:,} "
                f"voxels, {size.matrix_nbytes / 1e9:.2f} GB, {where}"
            )
        self.report.planned += [f"{job.subject} {name}" for name in job.small]

    def _plan_subject(self, subject: str) -> Job:
        files = layout.subject_files(subject, self.names)
        catalogue = self._catalogue(subject)
        axis, changed, together = self._plan_voxels(files, catalogue)
        job = Job(subject, files, catalogue, axis, changed, together)
        self._note_missing(files)
        for error in axis.errors:
            self.report.failed[f"{subject} {str(error).partition(':')[0].rpartition('/')[2]}"] = (
                error
            )
        if not changed:
            self.report.unchanged.append(f"{subject} voxels")
        if "betas" in self.options.parts:
            self._plan_sessions(job)
        self._plan_small(job)
        return job

    def _catalogue(self, subject: str) -> Catalogue:
        try:
            return Catalogue(self.store, subject, ("maps",))
        except StoreError:
            if not self.options.overwrite:
                raise
        # Its manifest is damaged: convert all that is there again, or leave it alone.
        catalogue = Catalogue(self.store, subject, ("maps",), ignore_manifest=True)
        there = catalogue.sessions_on_disk()
        if lost := sorted(set(there) - set(layout.subject_files(subject, self.names).sessions)):
            raise DataNotDownloadedError(
                f"The manifest of {subject} is damaged, and {', '.join(lost)} could not be "
                f"converted again: not in {self.source.root}. Download them first."
            )
        return catalogue

    def _identities(self, paths: Iterable[str]) -> Sources:
        wanted = {
            name for path in paths for name in recipe.with_sidecar(self.source, path, self.names)
        }
        return {name: self.source.identity(name) for name in sorted(wanted)}

    def _plan_voxels(
        self, files: SubjectFiles, catalogue: Catalogue
    ) -> tuple[VoxelAxis, bool, bool]:
        """The voxel axis, whether it must be written, and whether its order is a new one."""
        stored = catalogue.parts.get(schema.VOXELS_PART)
        mask = self.options.mask
        paths = recipe.voxel_files(files, mask)
        has_mask = bool(recipe.mask_files(files, mask))
        if stored is None and not has_mask:
            raise DataNotDownloadedError(
                f"{files.subject} has no brain mask in {self.source.root}, so its voxels cannot be "
                f"chosen. Download {layout.r2mean(files.subject)} or "
                f"{layout.anatomy(files.subject, 'brain_mask', layout.FUNCTIONAL_RES)}."
            )
        identities = self._identities(paths.values())
        if stored is not None and not self.options.overwrite:
            if _unchanged(stored, identities):
                return self._stored_axis(files.subject), False, False
            return self._extended_axis(files, identities), True, False
        if stored is not None:
            self._refuse_loss(files, catalogue)
        axis = recipe.read_voxels(self.source, files, mask, identities)
        axis.voxels = recipe.order_voxels(axis)
        return axis, True, self._order_changed(files.subject, stored, axis)

    def _stored_axis(self, subject: str) -> VoxelAxis:
        return recipe.restore_voxels(StoredParts(self.store, subject))

    def _extended_axis(self, files: SubjectFiles, identities: Sources) -> VoxelAxis:
        old = self._stored_axis(files.subject)
        # The stored masks are the frame that new ROIs and ceilings are read against.
        if not recipe.mask_files(files, self.options.mask):
            new = VoxelAxis(old.grid)
            recipe.read_into(new, self.source, files, identities)
        else:
            new = recipe.read_voxels(self.source, files, self.options.mask, identities)
        return recipe.merge_voxels(old, new, files.subject)

    def _order_changed(self, subject: str, stored: Part | None, axis: VoxelAxis) -> bool:
        if stored is None:
            return False
        try:
            found = StoredParts(self.store, subject).load(schema.VOXELS_PART, [schema.VOXEL])
        except StoreError:  # damaged: that is what --overwrite is for
            return True
        return not np.array_equal(found[schema.VOXEL], axis.voxels)

    def _refuse_loss(self, files: SubjectFiles, catalogue: Catalogue) -> None:
        """Refuse to overwrite what the mirror cannot give again."""
        lost = [
            name
            for name in catalogue.parts[schema.VOXELS_PART].sources
            if name not in self.names and not name.endswith(".json")
        ]
        if lost:
            raise DataNotDownloadedError(
                f"--overwrite would lose what {self.source.root} no longer has: "
                f"{', '.join(sorted(lost)[:5])}. Download it first, or remove {files.subject} from "
                "the store."
            )

    def _plan_sessions(self, job: Job) -> None:
        available = job.files.sessions
        for session in self.options.sessions or available:
            if session not in available or None in (
                available[session].betas,
                available[session].trials,
            ):
                self._note_session(job, session)
                continue
            try:
                self._plan_session(job, session)
            except _PROBLEMS as error:
                self.report.failed[f"{job.subject} {session}"] = error
        if job.together:
            self._refuse_other_sessions(job)

    def _note_session(self, job: Job, session: str) -> None:
        held_out = not layout.is_public(session)
        files = job.files.sessions.get(session)
        lacks = (
            "is held out from the public"
            if held_out
            else "is not in the mirror"
            if files is None
            else f"lacks its {'betas' if files.betas is None else 'trial table'}"
        )
        name = f"{job.subject} {session}"
        message = (
            f"{name} {lacks} ({layout.betas(job.subject, session).parent}). "
            f"Download it: laion-zarr download --subject {job.subject} --ses {session}."
        )
        if session in job.catalogue.parts:
            self.report.unchanged.append(name)
        elif self.options.sessions is not None:
            self.report.failed[name] = DataNotDownloadedError(message)
        else:
            self.report.missing.append(message)

    def _plan_session(self, job: Job, session: str) -> None:
        files = job.files.sessions[session]
        assert files.betas is not None and files.trials is not None
        name = f"{job.subject} {session}"
        identities = self._identities([files.betas, files.trials])
        stored = job.catalogue.parts.get(session)
        if _unchanged(stored, identities) and not self.options.overwrite:
            self.report.unchanged.append(name)
            return
        table = self.source.read_trials(files.trials, session)
        with self.source.volume(files.betas) as volume:
            check_betas(volume, job.axis.grid, len(table))
            size = SessionSize(len(job.axis.voxels), len(table), len(volume.buffer()))
        job.tables[session] = table
        job.sizes.append(size)
        job.tasks.append(
            SessionTask(
                self.source,
                self.store_like,
                self.storage_options,
                job.subject,
                session,
                files.betas,
                files.trials,
                identities,
                job.axis.grid,
                job.axis.voxels,
                job.catalogue.place(session),
                in_memory=True,
            )
        )

    def _refuse_other_sessions(self, job: Job) -> None:
        stored = {name for name in job.catalogue.parts if schema.is_session_part(name)}
        if left := sorted(stored - {task.session for task in job.tasks}):
            raise DataNotDownloadedError(
                f"The voxels of {job.subject} changed, so all its sessions must be converted "
                f"together, and {', '.join(left)} would be left behind. Download them and run "
                f"'laion-zarr convert --overwrite --subject {job.subject}' without --ses."
            )

    def _plan_small(self, job: Job) -> None:
        """Maps, anatomy and surfaces: small, written by this process."""
        for session, files in job.files.sessions.items():
            asked = self.options.sessions is None or session in self.options.sessions
            if "betas" in self.options.parts and asked and files.maps:
                self._plan_part(job, schema.maps_part(session), files.maps, recipe.write_maps)
        images = recipe.anatomy_files(job.files)
        if "anatomy" in self.options.parts and images:
            self._plan_part(job, schema.ANATOMY_PART, images, recipe.write_anatomy)
        rois = {roi: its for roi, its in job.files.rois.items() if its.surfaces}
        if "surfaces" in self.options.parts and rois:
            paths = [path for its in rois.values() for path in its.surfaces.values()]
            identities = self._identities(paths)
            if self._needed(job, schema.SURFACES_PART, identities):
                job.small[schema.SURFACES_PART] = lambda path: recipe.write_surfaces(
                    self.store, path, self.source, rois, identities
                )

    def _plan_part(
        self, job: Job, name: str, files: Mapping[str, str], write: Callable[..., Part]
    ) -> None:
        try:
            identities = self._identities(files.values())
        except _PROBLEMS as error:
            self.report.failed[f"{job.subject} {name}"] = error
            return
        if self._needed(job, name, identities):
            frame = job.axis if write is recipe.write_maps else job.axis.grid
            job.small[name] = lambda path: write(
                self.store, path, self.source, files, frame, identities
            )

    def _needed(self, job: Job, name: str, identities: Sources) -> bool:
        part = job.catalogue.parts.get(name)
        if _unchanged(part, identities) and not self.options.overwrite:
            self.report.unchanged.append(f"{job.subject} {name}")
            return False
        return True

    def _note_missing(self, files: SubjectFiles) -> None:
        """Name what the mirror lacks."""
        lacking = {
            "sessions": not files.sessions,
            "anatomical brain mask": ("brain_mask", layout.FUNCTIONAL_RES) not in files.anatomy,
            "R2mean map (rsquare brain mask)": files.r2mean is None,
            "ROIs": not files.rois,
            "cross-session noise ceilings": not files.noise_ceilings,
            "T1w image": ("t1w", layout.FUNCTIONAL_RES) not in files.anatomy,
        }
        self.report.missing += [
            f"{files.subject}: no {what} in {self.source.root}."
            for what, lacks in lacking.items()
            if lacks
        ]
        for roi, its in files.rois.items():
            if its.volume is None:
                self.report.missing.append(f"{files.subject}: ROI {roi} has no volume mask.")

    # -- doing

    def execute(self, subjects: Sequence[str], lock: int | None, progress: bool) -> None:
        """Plan, check the disk, write."""
        for group in groups_in(self.store):
            self._recover(group)
        jobs = self.plan(subjects)
        self._check_space()
        stimuli = self._stimuli()
        total = sum(size.n_trials * size.volume_nbytes for job in jobs for size in job.sizes)
        with tqdm(
            total=total, unit="B", unit_scale=True, desc="betas", disable=not progress or not total
        ) as bar:
            for job in jobs:
                try:
                    self._execute_job(job, stimuli, lock, bar)
                except _PROBLEMS as error:
                    self.report.failed[job.subject] = error
        for group in groups_in(self.store):
            if group.startswith("sub-") and group not in [job.subject for job in jobs]:
                self._refresh_trials(group, stimuli)
        finish_root(self.store, groups_in(self.store))

    def _recover(self, group: str) -> None:
        try:
            Catalogue(self.store, group, ("maps",) if group.startswith("sub-") else ()).recover()
        except StoreError:
            if not self.options.overwrite:
                raise

    def _check_space(self) -> None:
        if isinstance(self.store, LocalStore):
            free = shutil.disk_usage(self.store.root).free
            needed = self.report.disk_nbytes + _SPARE
            if free < needed:
                raise StoreError(
                    f"{self.store.root} has {free / 1e9:.1f} GB free, and the conversion needs up "
                    f"to {needed / 1e9:.1f} GB. Free space, name another place with --store, or "
                    "convert fewer --subject or --ses."
                )

    def _execute_job(
        self, job: Job, stimuli: tuple[pd.DataFrame | None, Sources], lock: int | None, bar: Any
    ) -> None:
        pending: dict[str, Part] = {}

        def done(parts: dict[str, Part]) -> None:
            pending.update(parts)
            if not job.together:
                job.catalogue.commit(pending)
                pending.clear()

        if job.voxels_changed:
            path = job.catalogue.place(schema.VOXELS_PART)
            done({schema.VOXELS_PART: recipe.write_voxels(self.store, path, job.axis)})
            self.report.converted.append(f"{job.subject} voxels")
        self._write_small(job, done)
        for task, outcome in run(job.tasks, self._n_workers, bar.update, lock):
            name = f"{job.subject} {task.session}"
            if isinstance(outcome, Exception):
                self.report.failed[name] = outcome
                continue
            done({task.session: outcome})
            if not job.together:
                self._commit_trials(job, stimuli)
            self.report.converted.append(name)
        if job.together:
            self._commit_together(job, pending)
        self._commit_trials(job, stimuli)

    def _write_small(self, job: Job, done: Callable[[dict[str, Part]], None]) -> None:
        for name, write in job.small.items():
            try:
                done({name: write(job.catalogue.place(name))})
                self.report.converted.append(f"{job.subject} {name}")
            except _PROBLEMS as error:
                self.report.failed[f"{job.subject} {name}"] = error

    def _commit_together(self, job: Job, pending: dict[str, Part]) -> None:
        stored = set(job.catalogue.parts) - {schema.TRIALS_PART, schema.SURFACES_PART, schema.ANATOMY_PART}
        if left := sorted(stored - set(pending)):
            raise LaionZarrError(
                f"{job.subject} was not overwritten: its voxels changed, and {', '.join(left)} "
                "could not be converted again. What was stored is untouched; mend what failed and "
                "run the same command."
            )
        job.catalogue.commit(pending)

    def _commit_trials(self, job: Job, stimuli: tuple[pd.DataFrame | None, Sources]) -> None:
        self._write_trials(job.catalogue, job.tables, stimuli)

    def _refresh_trials(self, subject: str, stimuli: tuple[pd.DataFrame | None, Sources]) -> None:
        self._write_trials(Catalogue(self.store, subject, ("maps",)), {}, stimuli)

    def _write_trials(
        self,
        catalogue: Catalogue,
        tables: dict[str, pd.DataFrame],
        stimuli: tuple[pd.DataFrame | None, Sources],
    ) -> None:
        """Bring the trial table up to the sessions that are whole."""
        sessions = {n: p for n, p in catalogue.parts.items() if schema.is_session_part(n)}
        table, made_from = stimuli
        made_from = made_from | {name: _fingerprint(part) for name, part in sessions.items()}
        stored = catalogue.parts.get(schema.TRIALS_PART)
        if not sessions or (stored is not None and dict(stored.sources) == made_from):
            return
        stored_parts = StoredParts(self.store, catalogue.group)
        for session in sessions:
            if session not in tables:
                tables[session] = stored_table(stored_parts, session)
        path = catalogue.place(schema.TRIALS_PART)
        whole = {session: tables[session] for session in sessions}
        part = recipe.write_trials(self.store, path, whole, table, made_from)
        catalogue.commit({schema.TRIALS_PART: part})

    def _stimuli(self) -> tuple[pd.DataFrame | None, Sources]:
        """Stimulus metadata: converted if the mirror has it, else as stored."""
        file = str(layout.STIMULUS_METADATA)
        catalogue = Catalogue(self.store, schema.STIMULI_GROUP)
        part = catalogue.parts.get(schema.METADATA_PART)
        if "metadata" in self.options.parts:
            try:
                part = self._convert_metadata(file, catalogue, part)
            except _PROBLEMS as error:
                self.report.failed["stimuli metadata"] = error
        if part is None:
            return None, {}
        stored = StoredParts(self.store, schema.STIMULI_GROUP)
        columns = stored.load(schema.METADATA_PART)
        return pd.DataFrame(columns), {schema.METADATA_PART: _fingerprint(part)}

    def _convert_metadata(
        self, file: str, catalogue: Catalogue, part: Part | None
    ) -> Part | None:
        if file not in self.names:
            if part is None and self.options.asked_parts:
                raise DataNotDownloadedError(
                    f"{self.source.full(file)} is not there. Download it: laion-zarr "
                    "download-stimuli."
                )
            if part is None:
                self.report.missing.append(f"no stimulus metadata in {self.source.root} ({file}).")
            return part
        identities = self._identities([file])
        if _unchanged(part, identities) and not self.options.overwrite:
            self.report.unchanged.append("stimuli metadata")
            return part
        path = catalogue.place(schema.METADATA_PART)
        catalogue.commit(
            {
                schema.METADATA_PART: recipe.write_metadata(
                    self.store, path, self.source, file, identities
                )
            }
        )
        self.report.converted.append("stimuli metadata")
        return catalogue.parts[schema.METADATA_PART]


def stored_table(stored: StoredParts, session: str) -> pd.DataFrame:
    """A session's trial table as the store has it."""
    (attributes,) = stored.attributes(session)
    columns = ["image_name" if c == "label" else c for c in attributes["tsv_columns"]]
    found = stored.load(session, columns)
    table = pd.DataFrame({name: found[name] for name in columns})
    return table.rename(columns={"image_name": "label"})
