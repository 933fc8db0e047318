"""Decide which parts of each subject must be written: reads source and store, writes to neither."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from laion_zarr import _release as release
from laion_zarr._release import SubjectFiles
from laion_zarr._words import as_size
from laion_zarr.conversion.budget import ClusterRoom, SessionSize, WorkPlan, plan_cluster, plan_work
from laion_zarr.conversion.options import PROBLEMS, Options, Report
from laion_zarr.conversion.parts.localizers import LocalizerMaps
from laion_zarr.conversion.parts.pieces import Pieces
from laion_zarr.conversion.parts.session import SessionTask, check_betas
from laion_zarr.conversion.parts.subject import Sources, VoxelAxis
from laion_zarr.conversion.planning.bold import BoldPlanner
from laion_zarr.conversion.planning.changes import identities, look_ahead, unchanged
from laion_zarr.conversion.planning.losses import unlisted_losses
from laion_zarr.conversion.planning.small_parts import (
    BETAS,
    KINDS,
    MAPS,
    Kind,
    SmallPart,
)
from laion_zarr.conversion.planning.voxel_axis import AxisPlanner
from laion_zarr.conversion.series.task import SeriesTask
from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.source.nifti import open_volume
from laion_zarr.conversion.source.tables import read_trials
from laion_zarr.conversion.write.catalogue import Catalogue
from laion_zarr.conversion.write.root import lost_manifests
from laion_zarr.errors import DataNotDownloadedError, StoreError
from laion_zarr.store import schema
from laion_zarr.store.objects import StoreLike, damaged
from laion_zarr.store.schema import EVENTS_PART

# Measured: compressed betas take 0.90-0.95 of their raw size; a subject's other parts are small.
_PACKED = 0.95
# Small parts: float32 of what may be integers in the source, packed faster and less tightly.
_REPACKED = 2


@dataclass
class Job:
    """Parts of one subject that must be written, and the data that writing them needs."""

    subject: str
    files: SubjectFiles
    catalogue: Catalogue
    axis: VoxelAxis
    voxels_changed: bool
    together: bool  # whether the voxel order changes: then all parts or none are committed
    tasks: list[SeriesTask] = field(default_factory=list)
    sizes: list[SessionSize] = field(default_factory=list)
    small: dict[str, Callable[[], Pieces | LocalizerMaps]] = field(default_factory=dict)
    small_nbytes: dict[str, int] = field(default_factory=dict)  # of the files of each
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


def shared(store: Store) -> bool:
    """Whether other processes can open the store: not if it is in the memory of this process."""
    in_memory = isinstance(store, FsspecStore) and "memory" in store.fs.protocol
    return isinstance(store, LocalStore | FsspecStore) and not in_memory


@dataclass
class Planner:
    """Plans one conversion run on one store.

    Attributes
    ----------
    source : Source
        The mirror.
    names : frozenset of str
        Relative paths of the mirror's files.
    store_like, storage_options
        Store and fsspec options as the user gave them; the workers open the store with these.
    store : zarr.abc.store.Store
        The open store.
    options : Options
        Options that the user gave.
    report : Report
        Unchanged, missing and failed parts are added to the report.
    room : ClusterRoom or None
        Threads and memory of the cluster that converts the sessions; None if processes of this
        machine convert them.
    n_workers : int
        Number of processes, or of threads of the cluster, that convert sessions; set by `plan`.
    """

    source: Source
    names: frozenset[str]
    store_like: StoreLike
    storage_options: dict[str, Any] | None
    store: Store
    options: Options
    report: Report
    room: ClusterRoom | None = None
    n_workers: int = 1

    def plan(self, subjects: Sequence[str]) -> list[Job]:
        """Decide which parts of each subject must be written."""
        jobs = []
        for subject in subjects:
            try:
                jobs.append(self._plan_subject(subject))
            except PROBLEMS as error:
                self.report.failed[subject] = error
        work = self._work_plan(jobs)
        for job in jobs:
            job.tasks = [
                replace(task, slabs_kept=work.slabs_kept(size))
                for task, size in zip(job.tasks, job.sizes, strict=True)
            ]
            self._describe(job)
        return jobs

    def _work_plan(self, jobs: Sequence[Job]) -> WorkPlan:
        sizes = [size for job in jobs for size in job.sizes]
        # A store in the memory of this process cannot be written by another process.
        n_workers = self.options.n_workers if shared(self.store) else 1
        if self.room is None:
            work = plan_work(sizes, n_workers, self.options.memory)
        else:
            work = plan_cluster(sizes, self.room, self.options.memory)
        packed = sum(int(size.matrix_nbytes * _PACKED) for size in sizes)
        scratch = sorted(
            (size.n_slabs - work.slabs_kept(size)) * size.slab_nbytes for size in sizes
        )
        self.report.disk_nbytes += packed + sum(scratch[-work.n_workers :])
        self.n_workers = work.n_workers
        return work

    def _describe(self, job: Job) -> None:
        if job.voxels_changed:
            self.report.planned.append(f"{job.subject} voxels: {len(job.axis.voxels):,}")
        for task, size in zip(job.tasks, job.sizes, strict=True):
            in_file = size.n_slabs - task.slabs_kept
            where = "in memory" if not in_file else f"{in_file} of {size.n_slabs} slabs in a file"
            self.report.planned.append(
                f"{job.subject} {task.part}: {task.summary()} × {size.n_voxels:,} voxels, "
                f"{as_size(size.matrix_nbytes)}, {where}"
            )
        self.report.planned += [
            f"{job.subject} {name}: {as_size(job.small_nbytes[name])} of files"
            for name in job.small
        ]

    def _plan_subject(self, subject: str) -> Job:
        files = release.subject_files(subject, self.names)
        catalogue = self._catalogue(subject)
        chosen = AxisPlanner(self.source, self.names, self.store, self.options).plan(
            files, catalogue.parts.get(schema.VOXELS_PART)
        )
        job = Job(subject, files, catalogue, chosen.axis, chosen.changed, chosen.reordered)
        for what, error in chosen.axis.errors.items():
            self.report.failed[f"{subject} {what}"] = error
        if not chosen.changed:
            self.report.unchanged.append(f"{subject} voxels")
        if "betas" in self.options.parts:
            self._plan_sessions(job)
        self._plan_bold(job)
        if job.together and "betas" in self.options.parts:
            self._refuse_other_series(job)
        self._plan_small(job)
        return job

    def _catalogue(self, subject: str) -> Catalogue:
        lost = subject in lost_manifests(self.store)
        try:
            catalogue = Catalogue(self.store, subject)
            if not lost:
                return catalogue
        except StoreError:
            if not self.options.overwrite:
                raise
        if not self.options.overwrite:
            raise damaged(self.store, f"{subject}/{schema.MANIFEST}", "is missing")
        catalogue = Catalogue(self.store, subject, ignore_manifest=True)
        self._refuse_unlisted_loss(release.subject_files(subject, self.names), catalogue)
        return catalogue

    def _refuse_unlisted_loss(self, files: SubjectFiles, catalogue: Catalogue) -> None:
        """Raise if the manifest is lost and a stored array could not be converted again."""
        if self.options.sessions is not None or self.options.asked_parts:
            raise StoreError(
                f"The manifest of {files.subject} is damaged, so all of it must be converted: run "
                f"'laion-zarr convert --overwrite --subject {files.subject}' without --ses and "
                "--parts."
            )
        lost = unlisted_losses(files, catalogue, self.names)
        if lost:
            raise DataNotDownloadedError(
                f"The manifest of {files.subject} is damaged, and {', '.join(lost[:5])} could not "
                f"be converted again: not in {self.source.root}. Download its files first."
            )

    def identities(self, paths: Iterable[str]) -> Sources:
        """Current identities (size, CRC-32) of files and of their sidecars."""
        return identities(self.source, self.names, paths)

    def _identities_of(self, subject: str, files: Mapping[str, str]) -> Sources:
        """Identities of many small files; a file that cannot be read is reported as failed."""
        found: Sources = {}
        look_ahead(self.source, self.names, files.values())
        for what, path in files.items():
            try:
                found |= self.identities([path])
            except PROBLEMS as error:
                self.report.failed[f"{subject} {what}"] = error
        return found

    def _plan_sessions(self, job: Job) -> None:
        available = job.files.sessions
        wanted = [available[ses] for ses in self.options.sessions or available if ses in available]
        paths = [path for its in wanted for path in (its.betas, its.trials) if path is not None]
        look_ahead(self.source, self.names, paths)
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
        # Betas that are there and cannot be read are reported as that, not as missing.
        start = f"{job.subject} ses-"
        unread = [
            name
            for name, error in self.report.failed.items()
            if name.startswith(start) and not isinstance(error, DataNotDownloadedError)
        ]
        self._note_none("betas", BETAS, job, [*job.tasks, *unread])

    def _plan_bold(self, job: Job) -> None:
        planner = BoldPlanner(
            self.source,
            self.names,
            self.options,
            self.report,
            self.store_like,
            self.storage_options,
        )
        for task, size in planner.plan(job.files, job.catalogue, job.axis):
            job.tasks.append(task)
            job.sizes.append(size)

    def _note_session(self, job: Job, session: str) -> None:
        held_out = release.is_held_out(session)
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
            f"{name} {lacks} ({release.betas(job.subject, session).parent}). "
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
        table = read_trials(self.source, files.trials, session)
        with open_volume(self.source, files.betas) as volume:
            check_betas(volume, job.axis.grid, files.trials, len(table))
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
                identities,
                job.axis.grid,
                job.axis.voxels,
                job.catalogue.place(session),
                slabs_kept=0,
                betas=files.betas,
                trials=files.trials,
                n_trials=len(table),
            )
        )

    def _refuse_other_series(self, job: Job) -> None:
        stored = {
            name
            for name in job.catalogue.parts
            if schema.is_session_part(name) or schema.is_bold_part(name)
        }
        if left := sorted(stored - {task.part for task in job.tasks}):
            raise DataNotDownloadedError(
                f"The voxels of {job.subject} changed, so all its sessions must be converted "
                f"together, and {', '.join(left)} would be left behind. Download them and run "
                f"'laion-zarr convert --overwrite --subject {job.subject}' without --ses and "
                "--parts."
            )

    def _plan_small(self, job: Job) -> None:
        """Plan the small parts, which the parent process writes."""
        if "betas" in self.options.parts:
            wanted = self.options.sessions or job.files.sessions
            names = {schema.maps_part(session) for session in wanted}
            for part in MAPS.find(job.files):
                if part.name in names:
                    self._plan_part(job, part)
        for option in [option for option in KINDS if option in self.options.parts]:
            found = KINDS[option].find(self._of_sessions(job.files))
            if option == EVENTS_PART and self.options.sessions and self.options.asked_parts:
                self._note_events(job)
            else:
                self._note_none(option, KINDS[option], job, found)
            for part in found:
                self._plan_part(job, part)

    def _of_sessions(self, files: SubjectFiles) -> SubjectFiles:
        """Files of a subject without the events of sessions that were not asked for."""
        wanted = self.options.sessions
        runs = files.events.items()
        return replace(files, events={r: p for r, p in runs if wanted is None or r[0] in wanted})

    def _note_events(self, job: Job) -> None:
        """Report sessions that were asked for and have no events."""
        stored = job.catalogue.parts.get(EVENTS_PART)
        converted = () if stored is None else stored.sources
        runs = {*job.files.events, *release.subject_files(job.subject, converted).events}
        there = {session for session, _ in runs}
        for session in self.options.sessions or ():
            if session not in there:
                name = f"{job.subject} {EVENTS_PART} {session}"
                folder = release.events(job.subject, session, 1).parent
                self.report.failed[name] = DataNotDownloadedError(
                    f"{self.source.full(str(folder))} has no events. Download them: laion-zarr "
                    f"download-raw --subject {job.subject} --ses {session} --suffix events."
                )

    def _note_none(self, option: str, kind: Kind, job: Job, found: Collection[object]) -> None:
        """Report a part that the user named, and that neither the mirror nor the store has."""
        stored = any(name.startswith(kind.stored_as) for name in job.catalogue.parts)
        if not found and not stored and self.options.asked_parts:
            self.report.failed[f"{job.subject} {option}"] = DataNotDownloadedError(
                f"{self.source.full(str(kind.folder(job.subject)))} has nothing for --parts "
                f"{option}. Download it: laion-zarr {kind.command.format(job.subject)}."
            )

    def _plan_part(self, job: Job, part: SmallPart) -> None:
        ids = self._identities_of(job.subject, part.files)
        if ids and self._needed(job, part.name, ids):
            job.small[part.name] = partial(part.read, self.source, job.axis, ids)
            sizes = [ids[path]["size"] for path in part.files.values() if path in ids]
            job.small_nbytes[part.name] = sum(sizes)
            self.report.disk_nbytes += _REPACKED * sum(sizes)

    def _needed(self, job: Job, name: str, identities: Sources) -> bool:
        part = job.catalogue.parts.get(name)
        if unchanged(part, identities) and not self.options.overwrite:
            self.report.unchanged.append(f"{job.subject} {name}")
            return False
        return True
