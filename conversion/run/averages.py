"""Make the averages of subjects anew where they are not those of their betas."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm
from zarr.abc.store import Store

from laion_zarr.conversion.averages.making import AveragesMaker
from laion_zarr.conversion.options import PROBLEMS, Options, Report
from laion_zarr.conversion.write.catalogue import Catalogue
from laion_zarr.conversion.write.root import (
    check_space,
    finish_root,
    groups_in,
    locked,
    lost_manifests,
)
from laion_zarr.errors import LaionZarrError, NotConvertedError
from laion_zarr.store.manifest import parse_root, read_texts
from laion_zarr.store.objects import StoreLike, location, open_store
from laion_zarr.store.parts import Part, StoredParts
from laion_zarr.store.schema import AVERAGE_ARRAYS, AVERAGES_PART


def run_averages(
    store_like: StoreLike,
    storage_options: dict[str, Any] | None,
    options: Options,
    dry_run: bool,
    progress: bool,
) -> Report:
    """Make averages alone: from the store, without a source."""
    for given, name in ((options.sessions, "--ses"), (options.scheduler, "--scheduler")):
        if given is not None:
            raise ValueError(
                f"{name} has no meaning for averages: they are of all sessions, and made in "
                "threads of this process, as many as --n-workers says. Leave it out."
            )
    there = open_store(store_like, storage_options)  # opened for writing, it would be created
    parse_root(there, read_texts(there, ["zarr.json"])[0])
    store, report = open_store(store_like, storage_options, read_only=dry_run), Report()
    run = AveragesRun(store, options, report)
    if dry_run:
        run.plan()
        return report
    with locked(store):
        for subject in run.subjects():
            try:
                Catalogue(store, subject).recover()
            except PROBLEMS as error:
                report.failed[subject] = error
        run.run(progress)
        finish_root(store, sorted({*groups_in(store), *lost_manifests(store)}))
    return report


class AveragesRun:
    """Plans and makes averages, in one conversion run on one store.

    Parameters
    ----------
    store : zarr.abc.store.Store
        The store.
    options : Options
        Options that the user gave.
    report : Report
        Results are added to the report; a subject that failed before is left alone.
    """

    def __init__(self, store: Store, options: Options, report: Report) -> None:
        self._store, self._options, self._report = store, options, report

    def subjects(self) -> list[str]:
        """Subjects in the store whose averages are wanted."""
        there = [group for group in groups_in(self._store) if group.startswith("sub-")]
        return [s for s in there if self._options.subjects is None or s in self._options.subjects]

    def plan(self) -> None:
        """Report which averages would be made from the store as it is."""
        for subject in self._to_make():
            try:
                size = AveragesMaker(self._store, subject).size
                size.n_threads(self._options.n_workers, self._options.memory)
            except (*PROBLEMS, ValueError) as error:
                self._fail(subject, error)
                continue
            self._report.disk_nbytes += size.nbytes
            self._report.planned.append(
                f"{_name(subject)}: {size.n_images:,} images × {size.n_voxels:,} voxels, "
                f"{size.nbytes / 1e9:.2f} GB"
            )

    def run(self, progress: bool) -> None:
        """Make averages, and commit them subject by subject."""
        for subject in self._to_make():
            try:
                catalogue = Catalogue(self._store, subject)
                part = self._make(subject, catalogue.place(AVERAGES_PART), progress)
                catalogue.commit({AVERAGES_PART: part})
                catalogue.tidy()
                self._report.converted.append(_name(subject))
            except (*PROBLEMS, ValueError) as error:
                self._fail(subject, error)

    def _make(self, subject: str, path: str, progress: bool) -> Part:
        maker = AveragesMaker(self._store, subject)
        n_threads = maker.size.n_threads(self._options.n_workers, self._options.memory)
        check_space(self._store, maker.size.nbytes)
        total, title = maker.size.betas_nbytes, _name(subject)
        with tqdm(total=total, unit="B", unit_scale=True, desc=title, disable=not progress) as bar:
            return maker.write(path, n_threads, bar.update)

    def _to_make(self) -> list[str]:
        """Subjects whose averages are missing, stale, or to be made anew; reports all others."""
        found = self.subjects()
        for subject in sorted(set(self._options.subjects or ()) - set(found)):
            self._refuse(subject, "is not")
        if not found and self._options.subjects is None:
            self._refuse("", "no subject is")
        return [subject for subject in found if self._needs(subject)]

    def _needs(self, subject: str) -> bool:
        if subject in self._report.failed:
            return False
        try:
            stored = StoredParts(self._store, subject)
        except PROBLEMS as error:
            self._fail(subject, error)
            return False
        if not stored.sessions:
            self._refuse(subject, "has no session")
            return False
        # Earlier ones lack the arrays that are read voxel by voxel; readers do without.
        whole = (
            AVERAGES_PART in stored.parts
            and set(AVERAGE_ARRAYS) <= set(stored.part(AVERAGES_PART).arrays())
            and stored.stale_averages is None
        )
        if whole and not self._options.overwrite:
            self._report.unchanged.append(_name(subject))
            return False
        return True

    def _refuse(self, subject: str, what: str) -> None:
        mend = f"laion-zarr convert{f' --subject {subject}' if subject else ''}"
        error = NotConvertedError(
            f"{subject} {what} in the store {location(self._store)}, so there is nothing to "
            f"average. Convert betas first: {mend} --store {location(self._store)}.".lstrip()
        )
        # Data that a run converts with the rest may fail for a reason that was told before.
        self._report.failed.setdefault(subject or AVERAGES_PART, error)

    def _fail(self, subject: str, error: Exception) -> None:
        if isinstance(error, ValueError):  # as of --memory, which fails this part alone
            error = LaionZarrError(str(error))
        self._report.failed[_name(subject)] = error


def _name(subject: str) -> str:
    return f"{subject} {AVERAGES_PART}"


def note_stale(store: Store, report: Report) -> None:
    """Report averages that are no longer those of the betas."""
    for group in groups_in(store):
        try:
            message = StoredParts(store, group).stale_averages
        except LaionZarrError:  # damaged, which has been reported
            continue
        if message is not None:
            report.missing.append(message)
