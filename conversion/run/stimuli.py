"""Decide which parts of the stimuli must be converted, and convert them one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from laion_zarr import _release as release
from laion_zarr._words import as_size
from laion_zarr.conversion.options import PROBLEMS
from laion_zarr.conversion.parts import stimuli as recipe
from laion_zarr.conversion.parts.stimuli import Progress
from laion_zarr.conversion.parts.subject import Sources
from laion_zarr.conversion.planning.changes import unchanged
from laion_zarr.conversion.planning.subjects import Planner
from laion_zarr.conversion.planning.wanted import STIMULUS_FILES, files_of
from laion_zarr.conversion.source.tables import read_metadata
from laion_zarr.conversion.write.catalogue import Catalogue
from laion_zarr.conversion.write.root import lost_manifests
from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.errors import DataNotDownloadedError, LaionZarrError, SourceError, StoreError
from laion_zarr.store import schema
from laion_zarr.store.objects import damaged
from laion_zarr.store.parts import Part, StoredParts
from laion_zarr.store.schema import (
    EMBEDDINGS_PART,
    IMAGES_PART,
    METADATA_PART,
    STIMULI_GROUP,
    STIMULUS_PARTS,
)

_METADATA = str(release.STIMULUS_METADATA)


@dataclass(frozen=True)
class Work:
    """One part of the stimuli that must be written.

    Attributes
    ----------
    part : str
        Name of the part in the manifest.
    sources : dict
        Identities of the source files when the work was planned.
    nbytes : int
        Bytes of the source files.
    write : callable
        Called with the group to write to and a progress callback; writes the part and returns it.
    """

    part: str
    sources: Sources
    nbytes: int
    write: Callable[[str, Progress], Part]


class StimulusRun:
    """Plans and writes the stimuli, in one conversion run on one store.

    Parameters
    ----------
    planner : Planner
        Has the source, the store and the options; results are added to its report.
    """

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._source, self._names = planner.source, planner.names
        self._store, self._options = planner.store, planner.options
        self._report = planner.report
        self._together = False  # whether the manifest is lost: then all parts or none are committed

    @cached_property
    def _catalogue(self) -> Catalogue:
        lost = STIMULI_GROUP in lost_manifests(self._store)
        try:
            catalogue = Catalogue(self._store, STIMULI_GROUP)
            if not lost:
                return catalogue
        except StoreError:
            if not self._options.overwrite:
                raise
        if not self._options.overwrite:
            raise damaged(self._store, f"{STIMULI_GROUP}/{schema.MANIFEST}", "is missing")
        self._together = True
        return self._anew()

    def _anew(self) -> Catalogue:
        """Start an empty catalogue; raise if a stored part could not be converted again."""
        catalogue = Catalogue(self._store, STIMULI_GROUP, ignore_manifest=True)
        there = {name.rpartition("/")[0] for name in catalogue.arrays_on_disk()}
        wanted = {part for kind in self._options.parts for part in files_of(kind, self._names)}
        if left := sorted(there - wanted):
            raise DataNotDownloadedError(
                f"The manifest of the stimuli is damaged, so all of them must be converted again, "
                f"and {', '.join(left)} would be left behind. Download their files and run "
                "'laion-zarr convert --overwrite' without --parts."
            )
        return catalogue

    # -- planning

    def plan(self) -> list[Work]:
        """Return the parts to write; report those that are unchanged, missing or failed."""
        works = []
        for kind in STIMULUS_PARTS:
            if kind not in self._options.parts:
                continue
            found = files_of(kind, self._names)
            self._note_missing(kind, found)
            for part, files in found.items():
                try:
                    if (work := self._plan(kind, part, files)) is not None:
                        works.append(work)
                        self._report.disk_nbytes += work.nbytes
                        self._report.planned.append(
                            f"stimuli {part}: {as_size(work.nbytes)} of files"
                        )
                except PROBLEMS as error:
                    self._report.failed[f"stimuli {part}"] = error
        return works

    def _note_missing(self, kind: str, found: dict[str, list[str]]) -> None:
        if found or any(part.partition("/")[0] == kind for part in self._catalogue.parts):
            return
        files = STIMULUS_FILES.get(kind, [str(release.embeddings("*"))])
        lacking = [file for file in files if file not in self._names]
        message = f"no stimulus {kind} in {self._source.root} ({', '.join(lacking)})."
        if self._options.asked_parts:
            self._report.failed[f"stimuli {kind}"] = DataNotDownloadedError(
                f"{message} Download them: laion-zarr {STIMULUS_PARTS[kind]}."
            )
        else:
            self._report.missing.append(message)

    def _plan(self, kind: str, part: str, files: list[str]) -> Work | None:
        identities = self._planner.identities(files)
        nbytes = sum(identity["size"] for identity in identities.values())
        if kind in (IMAGES_PART, EMBEDDINGS_PART):
            names = self._names_for(kind)
            if names is not None:
                identities[recipe.NAMES] = recipe.identity_of_names(names)
            elif kind == IMAGES_PART:
                self._note_nameless()
                return None
        if unchanged(self._catalogue.parts.get(part), identities) and not self._options.overwrite:
            self._report.unchanged.append(f"stimuli {part}")
            return None
        return Work(part, identities, nbytes, self._writer(kind, files, identities))

    def _writer(self, kind: str, files: list[str], ids: Sources) -> Callable[[str, Progress], Part]:
        file, store, source = files[0], self._store, self._source

        def write(path: str, progress: Progress) -> Part:
            writer = PartWriter(store, path)
            match kind:
                case "images":
                    rows = self._names_for(kind) or []
                    return recipe.write_images(writer, source, file, ids, rows, progress)
                case "segmentations":
                    pair = (file, files[1])
                    return recipe.write_segmentations(writer, source, pair, ids, progress)
                case "embeddings":
                    order = self._names_for(kind)
                    part = recipe.write_embeddings(writer, source, file, ids, order)
                case "captions":
                    part = recipe.write_captions(writer, source, file, ids)
                case _:
                    part = recipe.write_metadata(writer, source, file, ids)
            progress(ids[file]["size"])
            return part

        return write

    @cached_property
    def _image_names(self) -> list[str] | None:
        """Image names in the order of the mirror's metadata and pictures, else as stored."""
        if _METADATA in self._names:
            return read_metadata(self._source, _METADATA)["image_name"].tolist()
        return self._stored_names()

    def _stored_names(self) -> list[str] | None:
        if METADATA_PART not in self._catalogue.parts:
            return None
        stored = StoredParts(self._store, STIMULI_GROUP)
        return stored.load(METADATA_PART, [recipe.NAMES])[recipe.NAMES].tolist()

    def _names_for(self, kind: str) -> list[str] | None:
        """Return the image names; with damaged metadata, raise for images, else use the stored."""
        try:
            return self._image_names
        except SourceError:
            if kind == IMAGES_PART:
                raise
            return self._stored_names()

    def image_names(self) -> list[str] | None:
        """Names of the images in the metadata that the store will have; None without metadata."""
        return self._names_for(METADATA_PART)

    def _note_nameless(self) -> None:
        message = (
            f"{self._source.full(_METADATA)} is not there, and only its rows say which picture is "
            "which. Download it: laion-zarr download-stimuli."
        )
        if self._options.asked_parts:
            self._report.failed[f"stimuli {IMAGES_PART}"] = DataNotDownloadedError(message)
        else:
            self._report.missing.append(message)

    # -- writing

    def run(self, works: list[Work], progress: bool) -> None:
        """Write the parts and commit each when complete; all at the end if the manifest is lost."""
        total = sum(work.nbytes for work in works)
        hidden = not progress or not works
        with tqdm(total=total, unit="B", unit_scale=True, desc="stimuli", disable=hidden) as bar:
            pending: dict[str, Part] = {}
            for work in works:
                name = f"stimuli {work.part}"
                try:
                    pending[work.part] = work.write(self._catalogue.place(work.part), bar.update)
                    if not self._together:
                        self._catalogue.commit(pending)
                        pending = {}
                    self._report.converted.append(name)
                except PROBLEMS as error:
                    self._report.failed[name] = error
                    if not self._together:
                        pending = {}  # the commit of this part failed
            if self._together:
                self._commit_together(pending)
            bar.update(total - bar.n)
        with suppress(StoreError):  # a damaged store, which 'laion-zarr verify' reports in detail
            self._report.missing += list(self._strangers())
        if works:
            self._catalogue.tidy()

    def _commit_together(self, pending: dict[str, Part]) -> None:
        failed = [name for name in self._report.failed if name.startswith("stimuli ")]
        if pending and failed:
            self._report.failed["stimuli"] = LaionZarrError(
                f"The stimuli were not overwritten: their manifest is lost, and "
                f"{', '.join(failed)} could not be converted again. What was stored is untouched; "
                "mend what failed and run the same command."
            )
        else:
            self._catalogue.commit(pending)

    def _strangers(self) -> Iterator[str]:
        """Messages about images that are in a part but not in the metadata, or the reverse."""
        if METADATA_PART not in self._catalogue.parts:
            return
        stored = StoredParts(self._store, STIMULI_GROUP)
        names = pd.Index(stored.load(METADATA_PART, [recipe.NAMES])[recipe.NAMES])
        for part in sorted(set(self._catalogue.parts) - {METADATA_PART}):
            own = pd.Index(stored.load(part, [recipe.NAMES])[recipe.NAMES]).unique()
            unknown = own.difference(names)
            if len(unknown):
                yield (
                    f"stimuli {part}: {len(unknown):,} images are not in the metadata, such as "
                    f"{unknown[0]!r}; they are stored, and no row of the metadata shows them."
                )
            lacking = names.difference(own)
            if len(lacking) and part.startswith((EMBEDDINGS_PART, IMAGES_PART)):
                yield (
                    f"stimuli {part}: {len(lacking):,} images of the metadata are not in it, such "
                    f"as {lacking[0]!r}."
                )

    def joined(self) -> tuple[pd.DataFrame | None, Sources]:
        """Stored stimulus metadata, None if there are none, and the fingerprint of their part."""
        part = self._catalogue.parts.get(METADATA_PART)
        if part is None:
            return None, {}
        stored = StoredParts(self._store, STIMULI_GROUP)
        arrays: dict[str, Any] = stored.attributes(METADATA_PART)[0]["csv_columns"]
        found = stored.load(METADATA_PART)
        table = pd.DataFrame({column: found[array] for column, array in arrays.items()})
        return table, {METADATA_PART: part.fingerprint}
