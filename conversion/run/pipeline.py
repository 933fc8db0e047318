"""The whole conversion: plan every subject, write part after part, commit the complete ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm
from zarr.abc.store import Store
from zarr.storage import LocalStore

from laion_zarr import config
from laion_zarr._release import Ids
from laion_zarr.conversion.options import PROBLEMS, Options, Report, check_options
from laion_zarr.conversion.parts import subject as recipe
from laion_zarr.conversion.parts.localizers import LocalizerMaps
from laion_zarr.conversion.parts.pieces import Pieces
from laion_zarr.conversion.planning.subjects import Job, Planner, shared
from laion_zarr.conversion.planning.wanted import list_files
from laion_zarr.conversion.run.averages import AveragesRun, note_stale, run_averages
from laion_zarr.conversion.run.cluster import Cluster
from laion_zarr.conversion.run.left_out import note_absent, note_lacking, note_left_out
from laion_zarr.conversion.run.stimuli import StimulusRun
from laion_zarr.conversion.run.trial_table import (
    Stimuli,
    note_behaviour,
    note_images,
    note_labels,
    with_trials,
)
from laion_zarr.conversion.run.workers import run
from laion_zarr.conversion.source.files import Source, open_source
from laion_zarr.conversion.write.catalogue import Catalogue
from laion_zarr.conversion.write.root import (
    check_space,
    finish_root,
    groups_in,
    locked,
    lost_manifests,
    prepare_root,
    remove_strays,
)
from laion_zarr.errors import (
    LaionZarrError,
    StoreError,
    StoreVersionError,
)
from laion_zarr.store import schema
from laion_zarr.store.objects import StoreLike, location, open_store
from laion_zarr.store.parts import Part, StoredParts
from laion_zarr.store.schema import AVERAGES_PART

log = logging.getLogger("laion_zarr")


def convert(
    source: str | Path | None = None,
    store: StoreLike | None = None,
    subjects: Ids | None = None,
    sessions: Ids | None = None,
    parts: str | Sequence[str] | None = None,
    *,
    mask: str = "both",
    n_workers: int | None = None,
    scheduler: str | None = None,
    memory: str | int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    storage_options: dict[str, Any] | None = None,
    progress: bool = True,
) -> Report:
    """Convert a mirror of LAION-fMRI into the store.

    Parts that the store already has, and whose source files have not changed, are skipped. Parts
    that a killed run left incomplete are converted again. A damaged source file fails only the
    parts that need the file.

    Parameters
    ----------
    source : str or Path, optional
        Data directory, or a URL with the same files, such as ``"s3://laion-fmri"``. If not
        provided, `laion_zarr.config.get_data_dir`.
    store : str, Path or zarr.abc.store.Store, optional
        Store to write to. If not provided, `laion_zarr.config.get_store`.
    subjects, sessions : str, int or list of them, optional
        Subjects and sessions to convert, such as ``"01"`` or 1. If not provided, all that the
        mirror has.
    parts : str or list of str, optional
        Some of ``betas``, ``anatomy``, ``surfaces``, ``localizers``, ``rois_1pt5``, ``geometry``,
        ``events``, ``metadata``, ``images``, ``embeddings``, ``segmentations``, ``captions``,
        ``bold``, ``averages``. If not provided, all of these but ``bold``, the preprocessed time
        series (about 4 GB a session), and ``averages``, the mean response to each image (about
        12 GB a subject), which are made from the store alone, without a source.
    mask : {"both", "anatomical", "rsquare"}
        Voxels to store: the union of both brain masks, or one of them.
    n_workers : int, optional
        Number of worker processes. If not provided, as many as there are cores and sessions, fewer
        if memory is short, and one if there is little to convert.
    scheduler : str, optional
        Address of a running Dask scheduler (extra ``cluster``), whose workers convert the sessions,
        one session in each of their threads. Cannot be combined with `n_workers`; the resulting
        store is the same.
    memory : str or int, optional
        Memory for all workers together, such as ``"4GiB"``; with `scheduler`, for each session. If
        not provided, 2 GB for each worker, or more if a session needs more; with `scheduler`, 2 GB
        for each session. In a cluster, a session never gets more than 0.8 of the memory per thread
        of the worker where this is smallest.
    overwrite : bool
        Whether to convert again what the store already has; a stored part is replaced only when
        the new one is complete.
    dry_run : bool
        Whether only to report which parts would be converted.
    storage_options : dict, optional
        Options of fsspec for a store at a URL.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Report
        Which parts were converted, which are unchanged, and which data are missing.

    Raises
    ------
    SourceError
        If a source file is damaged or contradicts another; raised after all other parts have been
        converted.
    DataNotDownloadedError
        If there is nothing to convert, or data that were asked for are not in the mirror.

    Examples
    --------
    >>> from laion_zarr import convert
    >>> convert("/data/laion-fmri", subjects="01", n_workers=4)  # doctest: +SKIP
    """
    options = check_options(
        subjects, sessions, parts, mask, n_workers, memory, overwrite, scheduler
    )
    report = run_conversion(
        open_source(source or config.get_data_dir()) if options.needs_source else None,
        config.get_store() if store is None else store,
        storage_options,
        options,
        dry_run,
        progress,
    )
    report.raise_failures()
    return report


def run_conversion(
    source: Source | None,
    store_like: StoreLike,
    storage_options: dict[str, Any] | None,
    options: Options,
    dry_run: bool,
    progress: bool,
) -> Report:
    """Convert as `convert` does, but return the failures of parts in the report."""
    if source is None:
        return run_averages(store_like, storage_options, options, dry_run, progress)
    store = open_store(store_like, storage_options, read_only=dry_run)
    mirror = list_files(source, options, store)
    report = Report()
    note_absent(report, source, options, mirror)
    note_left_out(report, source, options, mirror.listing)
    of_subjects = set(options.parts) - {*schema.STIMULUS_PARTS, AVERAGES_PART}
    subjects = mirror.subjects if of_subjects else []
    asked = subjects if options.subjects is None else options.subjects
    wanted = [s for s in subjects if s in asked and s not in report.failed]
    with _cluster(store, options) as cluster:
        room = None if cluster is None else cluster.room()
        planner = Planner(
            source, mirror.listing.names, store_like, storage_options, store, options, report, room
        )
        if dry_run:
            jobs, stimuli = _planned(planner, wanted), StimulusRun(planner)
            stimuli.plan()
            for job in jobs:
                note_labels(report, job.subject, job.tables, stimuli.image_names())
            if AVERAGES_PART in options.parts:
                AveragesRun(store, options, report).plan()
            return report
        _check_writable(store)
        with locked(store) as lock:
            prepare_root(store, options.overwrite)
            _Execution(planner, cluster).run(wanted, lock, progress)
    return report


def _planned(planner: Planner, subjects: Sequence[str]) -> list[Job]:
    jobs = planner.plan(subjects)
    for job in jobs:
        note_lacking(planner.report, planner.source, planner.options, job)
    return jobs


def _cluster(store: Store, options: Options) -> AbstractContextManager[Cluster | None]:
    if options.scheduler is None:
        return nullcontext()
    if not shared(store):
        raise ValueError(
            f"The workers of a cluster cannot write {location(store)}, which is in the memory of "
            "this process. Name a path that they share, or a bucket."
        )
    return Cluster(options.scheduler)


def _check_writable(store: Store) -> None:
    if isinstance(store, LocalStore):
        try:
            store.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{store.root} cannot be created: {error.strerror}. Name another place with "
                "--store, or mend the permissions."
            ) from error


class _Execution:
    """Carries out one conversion run on one store."""

    def __init__(self, planner: Planner, cluster: Cluster | None) -> None:
        self.planner, self.cluster = planner, cluster
        self.source, self.names = planner.source, planner.names
        self.store, self.options, self.report = planner.store, planner.options, planner.report

    def run(self, subjects: Sequence[str], lock: int | None, progress: bool) -> None:
        """Plan the run, check the free disk space, write and commit the parts, finish the root."""
        remove_strays(self.store)
        for group in groups_in(self.store):
            self._recover(group)
        jobs = _planned(self.planner, [s for s in subjects if s not in self.report.failed])
        stimulus_run = StimulusRun(self.planner)
        works = stimulus_run.plan()
        check_space(self.store, self.report.disk_nbytes)
        stimulus_run.run(works, progress)
        stimuli = stimulus_run.joined()
        total = sum(size.n_volumes * size.volume_nbytes for job in jobs for size in job.sizes)
        hidden = not progress or not total
        with tqdm(total=total, unit="B", unit_scale=True, desc="volumes", disable=hidden) as bar:
            for job in jobs:
                try:
                    self._run_job(job, stimuli, lock, bar)
                except PROBLEMS as error:
                    self.report.failed[job.subject] = error
        settled = {job.subject for job in jobs} | set(self.report.failed)
        for group in groups_in(self.store):
            if group.startswith("sub-") and group not in settled:
                # The trial table of every stored subject is joined with the stimulus metadata, so
                # new metadata change it also for subjects that are not converted in this run.
                try:
                    self._commit(Catalogue(self.store, group), {}, {}, stimuli)
                except PROBLEMS as error:
                    self.report.failed[group] = error
        if AVERAGES_PART in self.options.parts:
            AveragesRun(self.store, self.options, self.report).run(progress)
        note_stale(self.store, self.report)
        finish_root(self.store, sorted({*groups_in(self.store), *lost_manifests(self.store)}))

    def _recover(self, group: str) -> None:
        try:
            Catalogue(self.store, group).recover()
        except StoreVersionError:
            raise
        except StoreError as error:
            # Damage in a subject fails this subject only. Damage in the stimuli stops the run:
            # every trial table is joined with the stimulus metadata.
            if self.options.overwrite:
                return
            if group == schema.STIMULI_GROUP:
                raise
            self.report.failed[group] = error

    # -- one subject

    def _run_job(self, job: Job, stimuli: Stimuli, lock: int | None, bar: Any) -> None:
        pending: dict[str, Part] = {}
        # Trial tables of the sessions converted here; for any other session, the table that is
        # stored beside its betas is used.
        tables: dict[str, pd.DataFrame] = {}

        def done(parts: dict[str, Part]) -> None:
            pending.update(parts)
            if not job.together:
                self._commit(job.catalogue, pending, tables, stimuli)
                pending.clear()

        if job.voxels_changed:
            path = job.catalogue.place(schema.VOXELS_PART)
            done({schema.VOXELS_PART: recipe.write_voxels(self.store, path, job.axis)})
            self.report.converted.append(f"{job.subject} voxels")
        self._write_small(job, done)
        done_with = (
            run(job.tasks, self.planner.n_workers, bar.update, lock)
            if self.cluster is None
            else self.cluster.run(job.tasks, bar.update)
        )
        for task, outcome in done_with:
            name = f"{job.subject} {task.part}"
            if isinstance(outcome, Exception):
                self.report.failed[name] = outcome
            else:
                if task.part in job.tables:
                    tables[task.part] = job.tables[task.part]
                done({task.part: outcome})
                self.report.converted.append(name)
        if job.together:
            self._refuse_partial(job, pending)
        self._commit(job.catalogue, pending, tables, stimuli, anew=self.options.overwrite)
        note_images(job.catalogue, self.report)
        note_behaviour(job.catalogue, self.source, self.report)
        if self.cluster is None:
            job.catalogue.tidy()
        else:
            job.catalogue.recover()  # also removes what killed workers have left

    def _write_small(self, job: Job, done: Callable[[dict[str, Part]], None]) -> None:
        for name, read in job.small.items():
            try:
                found = read()
                part = self._write_part(job, name, found) if found.sources else None
                for what, error in found.errors.items():
                    self.report.failed[f"{job.subject} {name} {what}"] = error
                if part is not None:
                    done({name: part})
                    self.report.converted.append(f"{job.subject} {name}")
            except PROBLEMS as error:
                self.report.failed[f"{job.subject} {name}"] = error

    def _write_part(self, job: Job, name: str, found: Pieces | LocalizerMaps) -> Part:
        """Write a small part; keep what only the store has, unless its voxels change."""
        gone = name not in job.catalogue.parts or (job.together and name.startswith("maps/"))
        stored = None if gone else StoredParts(self.store, job.subject)
        return found.write(self.store, job.catalogue.place(name), stored)

    def _refuse_partial(self, job: Job, pending: Mapping[str, Part]) -> None:
        """Raise if a stored part, or a map in it, would be left in the old voxel order."""
        unordered = {schema.TRIALS_PART, schema.ANATOMY_PART, schema.FINE_ROIS_PART}
        unordered |= {schema.SURFACES_PART, schema.GEOMETRY_PART, schema.EVENTS_PART}
        unordered.add(AVERAGES_PART)  # no longer those of the betas, and refused
        parts = job.catalogue.parts.items()
        left = sorted(name for name, _ in parts if name not in unordered | set(pending))
        left += [
            f"{name}/{array}"
            for name, part in parts
            if name.startswith("maps/") and name in pending
            for array in sorted(set(part.arrays()) - set(pending[name].arrays()))
        ]
        if (maps := pending.get(schema.LOCALIZERS_PART)) is not None:
            stored = job.catalogue.parts.get(schema.LOCALIZERS_PART, maps)
            lost = set(stored.sources) - set(maps.sources)
            left += sorted(file for file in lost if not file.endswith(".json"))
        if left:
            job.catalogue.recover()  # removes what was staged
            raise LaionZarrError(
                f"{job.subject} was not overwritten: its voxels changed, and {', '.join(left)} "
                "could not be converted again. What was stored is untouched; mend what failed and "
                "run the same command."
            )

    def _commit(
        self,
        catalogue: Catalogue,
        parts: Mapping[str, Part],
        tables: Mapping[str, pd.DataFrame],
        stimuli: Stimuli,
        anew: bool = False,
    ) -> None:
        """Commit parts, with a new trial table if what it is made from changed."""
        catalogue.commit(with_trials(catalogue, parts, tables, stimuli, anew))
