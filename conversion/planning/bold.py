"""Decide which preprocessed time series must be converted: reads source and store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from zarr.abc.store import Store

from laion_zarr import _release as release
from laion_zarr._release import SubjectFiles
from laion_zarr.conversion.budget import SessionSize
from laion_zarr.conversion.options import PROBLEMS, Options, Report
from laion_zarr.conversion.parts.bold import BoldTask, check_runs, read_run
from laion_zarr.conversion.parts.subject import VoxelAxis
from laion_zarr.conversion.planning.changes import identities, look_ahead, unchanged
from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.write.catalogue import Catalogue
from laion_zarr.errors import DataNotDownloadedError
from laion_zarr.store import schema
from laion_zarr.store.bounds.nodes import parse_node
from laion_zarr.store.bounds.text import MOST_NODE
from laion_zarr.store.objects import StoreLike, fetch

Runs = dict[int, str]  # run -> path


def bold_arrays(files: SubjectFiles) -> set[str]:
    """Names of the arrays that a subject's time series become, with the name of the part."""
    return {f"{schema.bold_part(session)}/{schema.BOLD.name}" for session, _ in files.bold}


def run_files(store: Store, path: str) -> list[str]:
    """Source files of a stored array of time series; read without a checksum."""
    (data,) = fetch(store, [f"{path}/zarr.json"], [MOST_NODE])
    try:
        runs = parse_node(data or b"")["attributes"]["runs"]
        return [run["source"]["file"] for run in runs]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


@dataclass(frozen=True)
class BoldPlanner:
    """Plans the time series of one subject.

    They are converted if ``--parts`` names them. Without ``--parts``, those that the store has are
    kept up to date, as all else in it is.

    Attributes
    ----------
    source : Source
        The mirror.
    names : frozenset of str
        Relative paths of the mirror's files.
    options : Options
        Options that the user gave.
    report : Report
        Unchanged, missing and failed parts are added to the report.
    store : StoreLike
        The store as the user gave it, which the workers open.
    storage_options : dict or None
        Its fsspec options.
    """

    source: Source
    names: frozenset[str]
    options: Options
    report: Report
    store: StoreLike
    storage_options: dict[str, Any] | None

    def plan(
        self, files: SubjectFiles, catalogue: Catalogue, axis: VoxelAxis
    ) -> list[tuple[BoldTask, SessionSize]]:
        """Tasks of the sessions to convert, and their sizes."""
        there: dict[str, Runs] = {}
        for (session, run), path in files.bold.items():
            there.setdefault(session, {})[run] = path
        wanted = self._wanted(files.subject, there, catalogue)
        paths = [path for session in wanted for path in there[session].values()]
        look_ahead(self.source, self.names, paths)
        planned = []
        for session in wanted:
            part = schema.bold_part(session)
            try:
                task = self._session(session, there[session], catalogue, axis)
            except PROBLEMS as error:
                self.report.failed[f"{files.subject} {part}"] = error
                continue
            if task is not None:
                planned.append(task)
        return planned

    def _wanted(self, subject: str, there: Mapping[str, Runs], catalogue: Catalogue) -> list[str]:
        """Sessions to look at; reports those that the user asked for and the mirror lacks."""
        asked = self.options.sessions
        stored = {name for name in catalogue.parts if schema.is_bold_part(name)}
        if schema.BOLD_PART not in self.options.parts:
            if self.options.asked_parts:
                return []
            # --overwrite: also what a lost manifest listed.
            kept = _on_disk(catalogue) if self.options.overwrite else stored
            return [s for s in there if schema.bold_part(s) in kept and s in (asked or there)]
        if not there and not stored and asked is None:
            folder = self.source.full(str(release.TEDANA / subject))
            self._fail(subject, schema.BOLD_PART, f"{folder} has nothing for --parts bold")
        for session in asked or ():
            part = schema.bold_part(session)
            if session not in there and part in stored:
                self.report.unchanged.append(f"{subject} {part}")
            elif session not in there:
                folder = self.source.full(str(release.TEDANA / subject / session))
                self._fail(subject, part, f"{folder} has no time series", f" --ses {session}")
        return [session for session in asked or there if session in there]

    def _fail(self, subject: str, part: str, what: str, more: str = "") -> None:
        self.report.failed[f"{subject} {part}"] = DataNotDownloadedError(
            f"{what}. Download them (ses-31 and above are held out from the public): "
            f"laion-zarr download --subject {subject}{more} --include-bold."
        )

    def _session(
        self, session: str, paths: Runs, catalogue: Catalogue, axis: VoxelAxis
    ) -> tuple[BoldTask, SessionSize] | None:
        """Task of one session; None if the store has it already."""
        part, subject = schema.bold_part(session), catalogue.group
        ids = identities(self.source, self.names, paths.values())
        stored = catalogue.parts.get(part)
        if unchanged(stored, ids) and not self.options.overwrite:
            self.report.unchanged.append(f"{subject} {part}")
            return None
        if stored is not None:
            self._refuse_loss(subject, session, stored.sources)
        runs = tuple(
            read_run(self.source, run, path, axis.grid, self.names) for run, path in paths.items()
        )
        if warning := check_runs(self.source, runs):
            again = f"laion-zarr download --subject {subject} --ses {session} --include-bold"
            self.report.missing.append(f"{subject} {part}: {warning}: {again}.")
        # Each file has its own dtype: the largest volume counts.
        nbytes = max(run.volume_nbytes for run in runs)
        size = SessionSize(len(axis.voxels), sum(run.n_volumes for run in runs), nbytes)
        task = BoldTask(
            self.source,
            self.store,
            self.storage_options,
            subject,
            part,
            ids,
            axis.grid,
            axis.voxels,
            catalogue.place(part),
            slabs_kept=0,
            session=session,
            runs=runs,
        )
        return task, size

    def _refuse_loss(self, subject: str, session: str, sources: Iterable[str]) -> None:
        """Raise if a run is stored that the mirror no longer has: writing anew would lose it."""
        lost = [n for n in sources if n not in self.names and not n.endswith(".json")]
        if lost:
            raise DataNotDownloadedError(
                f"{self.source.root} no longer has {', '.join(sorted(lost)[:3])}, which the store "
                "has: converting the other runs anew would lose it. Download it: laion-zarr "
                f"download --subject {subject} --ses {session} --include-bold."
            )


def _on_disk(catalogue: Catalogue) -> set[str]:
    """Parts with time series that are in the store, listed by an intact manifest or not."""
    tail = f"/{schema.BOLD.name}"
    return {
        name.removesuffix(tail)
        for name in catalogue.arrays_on_disk()
        if schema.is_bold_part(name) and name.endswith(tail)
    }
