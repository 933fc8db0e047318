"""Decides what each subject needs: reads source and store, writes neither."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from laion_zarr import _layout as layout
from laion_zarr import _schema as schema
from laion_zarr._layout import SubjectFiles
from laion_zarr._store import Part, StoredParts, StoreLike
from laion_zarr.conversion import subject as recipe
from laion_zarr.conversion.options import PROBLEMS, Options, Report
from laion_zarr.conversion.plan import SessionSize, WorkPlan, plan_work
from laion_zarr.conversion.session import SessionTask, check_betas
from laion_zarr.conversion.sources import Source
from laion_zarr.conversion.subject import Sources, VoxelAxis
from laion_zarr.conversion.write import Catalogue
from laion_zarr.errors import DataNotDownloadedError, StoreError

# Measured: betas shrink to 0.90-0.95 of their raw size; the rest is small beside them.
_PACKED = 0.95
SUBGROUPS = ("maps",)


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


def unchanged(part: Part | None, identities: Sources) -> bool:
    """Whether a part was made from just these files; files gone since do not count."""
    return part is not None and all(part.sources.get(k) == v for k, v in identities.items())


def _shared(store: Store) -> bool:
    """Whether other processes reach the same store."""
    in_memory = isinstance(store, FsspecStore) and "memory" in store.fs.protocol
    return isinstance(store, LocalStore | FsspecStore) and not in_memory


@dataclass
class Planner:
    """Plans one run over one store.

    Attributes
    ----------
    source : Source
        The mirror.
    names : frozenset of str
        Its files.
    store_like, storage_options
        The store as the user named it, for the workers.
    store : zarr.abc.store.Store
        The same, open.
    options : Options
        What the user asked for.
    report : Report
        Takes what is unchanged, missing and failed.
    """

    source: Source
    names: frozenset[str]
    store_like: StoreLike
    storage_options: dict[str, Any] | None
    store: Store
    options: Options
    report: Report
    n_workers: int = 1

    def plan(self, subjects: Sequence[str]) -> list[Job]:
        """Decide what each subject needs."""
        jobs = []
        for subject in subjects:
            try:
                jobs.append(self._plan_subject(subject))
            except PROBLEMS as error:
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
        # A store in this process's memory cannot be written by another.
        n_workers = self.options.n_workers if _shared(self.store) else 1
        work = plan_work(sizes, n_workers, self.options.memory)
        packed = sum(int(size.matrix_nbytes * _PACKED) for size in sizes)
        scratch = sorted(size.matrix_nbytes for size in sizes if not work.in_memory(size))
        self.report.disk_nbytes = packed + sum(scratch[-work.n_workers :])
        self.n_workers = work.n_workers
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
        for what, error in axis.errors.items():
            self.report.failed[f"{subject} {what}"] = error
        if not changed:
            self.report.unchanged.append(f"{subject} voxels")
        if "betas" in self.options.parts:
            self._plan_sessions(job)
        self._plan_small(job)
        return job

    def _catalogue(self, subject: str) -> Catalogue:
        try:
            return Catalogue(self.store, subject, SUBGROUPS)
        except StoreError:
            if not self.options.overwrite:
                raise
        # Its manifest is damaged: convert all that is there again, or leave it alone.
        catalogue = Catalogue(self.store, subject, SUBGROUPS, ignore_manifest=True)
        there = catalogue.sessions_on_disk()
        if lost := sorted(set(there) - set(layout.subject_files(subject, self.names).sessions)):
            raise DataNotDownloadedError(
                f"The manifest of {subject} is damaged, and {', '.join(lost)} could not be "
                f"converted again: not in {self.source.root}. Download them first."
            )
        return catalogue

    def identities(self, paths: Iterable[str]) -> Sources:
        """What files are now, with their sidecars."""
        wanted = {
            name for path in paths for name in recipe.with_sidecar(self.source, path, self.names)
        }
        return {name: self.source.identity(name) for name in sorted(wanted)}

    def _plan_voxels(
        self, files: SubjectFiles, catalogue: Catalogue
    ) -> tuple[VoxelAxis, bool, bool]:
        """Decide on the voxel axis, whether to write it, and whether its order is a new one."""
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
        identities = self.identities(paths.values())
        if stored is not None and not self.options.overwrite:
            if unchanged(stored, identities):
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
            except PROBLEMS as error:
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
        assert files.betas is not None
        assert files.trials is not None
        name = f"{job.subject} {session}"
        identities = self.identities([files.betas, files.trials])
        stored = job.catalogue.parts.get(session)
        if unchanged(stored, identities) and not self.options.overwrite:
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
        """Plan maps, anatomy and surfaces: small, written by the parent process."""
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
            identities = self.identities(paths)
            if self._needed(job, schema.SURFACES_PART, identities):
                job.small[schema.SURFACES_PART] = lambda path: recipe.write_surfaces(
                    self.store, path, self.source, rois, identities
                )

    def _plan_part(
        self, job: Job, name: str, files: Mapping[str, str], write: Callable[..., Part]
    ) -> None:
        try:
            identities = self.identities(files.values())
        except PROBLEMS as error:
            self.report.failed[f"{job.subject} {name}"] = error
            return
        if self._needed(job, name, identities):
            frame = job.axis if write is recipe.write_maps else job.axis.grid
            job.small[name] = lambda path: write(
                self.store, path, self.source, files, frame, identities
            )

    def _needed(self, job: Job, name: str, identities: Sources) -> bool:
        part = job.catalogue.parts.get(name)
        if unchanged(part, identities) and not self.options.overwrite:
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
