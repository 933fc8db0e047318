"""What a source holds that a store lacks, or holds in another form; nothing is converted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from zarr.abc.store import Store

from laion_zarr import _release as release
from laion_zarr import config
from laion_zarr.conversion.options import PROBLEMS
from laion_zarr.conversion.parts.subject import with_sidecar
from laion_zarr.conversion.planning.differences import (
    CHANGED,
    GONE,
    NEW,
    STALE,
    UNKNOWN,
    Difference,
    OutdatedReport,
)
from laion_zarr.conversion.planning.versions import Versions, file_sources
from laion_zarr.conversion.planning.wanted import (
    Wanted,
    option_of,
    stimulus_parts,
    subject_parts,
    subjects_in,
)
from laion_zarr.conversion.source.files import Identity, Source, open_source
from laion_zarr.conversion.write.root import groups_in, lost_manifests
from laion_zarr.errors import StoreError
from laion_zarr.store import schema
from laion_zarr.store.manifest import parse_root, read_texts
from laion_zarr.store.objects import StoreLike, location, open_store
from laion_zarr.store.parts import StoredParts
from laion_zarr.store.schema import AVERAGES_PART


def outdated(
    source: str | Path | None = None,
    store: StoreLike | None = None,
    *,
    storage_options: dict[str, Any] | None = None,
) -> OutdatedReport:
    """Say what a mirror or the bucket holds that a store lacks, or holds in another form.

    Only listings are read and, of a local mirror, checksums: nothing is downloaded or converted.
    `convert` takes what is new or changed.

    Parameters
    ----------
    source : str or Path, optional
        Data directory, or a URL with the same files, such as ``"s3://laion-fmri"``. If not
        provided, `laion_zarr.config.get_data_dir`.
    store : str, Path or zarr.abc.store.Store, optional
        Store to compare. If not provided, `laion_zarr.config.get_store`.
    storage_options : dict, optional
        Options of fsspec for a store at a URL.

    Returns
    -------
    OutdatedReport
        What is new, changed, stale, gone, or of an unknown kind; true if something is new, changed
        or stale.

    Raises
    ------
    NotConvertedError
        If there is no store.
    DataNotDownloadedError
        If there is no such source.

    Notes
    -----
    A file has changed if its size or its content has. The content of a local file is compared as
    `convert` does, by checksums of samples of it or of all of it. At a URL the content
    is compared by ETag, where the data directory has the file that was converted, and has recorded
    with which ETag it came; other files of the same size are listed as not compared.

    Parts that `convert` makes only when they are named are looked at if the store has such parts of
    the subject. A store made with one brain mask is compared with the files of that mask.

    Examples
    --------
    >>> from laion_zarr.conversion import outdated
    >>> report = outdated()
    >>> bool(report), report.differences
    (False, ())
    """
    opened = open_store(config.get_store() if store is None else store, storage_options)
    parse_root(opened, read_texts(opened, ["zarr.json"])[0])
    return _Comparison(open_source(source or config.get_data_dir()), opened).report()


class _Comparison:
    """Compares one source with one store."""

    def __init__(self, source: Source, store: Store) -> None:
        self._source, self._store = source, store
        above = release.GLM.parent  # all derivatives, also those that are new
        derivatives = [above / name for name in source.folders(above) if name[0] != "."]
        folders = [*derivatives, release.RAW, *release.STIMULUS_FOLDERS]
        listing = source.listing(folders=folders)
        self._names = listing.names
        self._versions = Versions(source)
        self._problems = [str(error) for error in listing.unread.values()]

    def report(self) -> OutdatedReport:
        """Compare group by group, then look for unknown kinds of files."""
        groups = {*groups_in(self._store), *lost_manifests(self._store)} - {schema.SPLITS_GROUP}
        found: list[Difference] = []
        converted, _ = subjects_in(self._names)
        for group in sorted({*groups, *converted, schema.STIMULI_GROUP}):
            try:
                stored = StoredParts(self._store, group) if group in groups else None
                found += self._compare_group(group, stored)
            except StoreError as error:
                self._problems.append(str(error))
        return OutdatedReport(
            self._source.root,
            location(self._store),
            (*found, *self._unknown()),
            tuple(sorted(self._versions.uncompared)),
            tuple(self._problems),
        )

    def _compare_group(self, group: str, stored: StoredParts | None) -> Iterator[Difference]:
        recorded = {} if stored is None else _recorded(stored)
        wanted = {part.name: part for part in self._wanted(group, stored)}
        kinds = {*schema.DEFAULT_PARTS, *(option_of(group, name) for name in recorded)}
        for name, part in wanted.items():
            if part.option in kinds and name not in recorded:
                new = dict.fromkeys(self._files(part), "")
                yield self._difference(group, part, NEW, new, {})
        if stored is not None and stored.stale_averages is not None:
            why = "made from other betas than are stored"
            yield Difference(group, AVERAGES_PART, AVERAGES_PART, STALE, (), 0, why)
        for name, its in recorded.items():
            part = wanted.get(name) or Wanted(name, option_of(group, name), ())
            yield from self._compare_part(group, part, its)

    def _wanted(self, group: str, stored: StoredParts | None) -> list[Wanted]:
        if group == schema.STIMULI_GROUP:
            return stimulus_parts(self._names)
        masks = list(schema.MASKS)
        if stored is not None and schema.VOXELS_PART in stored.parts:
            masks = stored.attributes(schema.VOXELS_PART)[0]["masks"]
        mask = masks[0] if len(masks) == 1 else "both"
        return subject_parts(release.subject_files(group, self._names), mask)

    def _files(self, part: Wanted) -> list[str]:
        """Source files of a part, with their sidecars."""
        found = (with_sidecar(self._source, path, self._names) for path in part.files)
        return sorted({path for pair in found for path in pair})

    def _compare_part(
        self, group: str, part: Wanted, recorded: Mapping[str, Identity]
    ) -> Iterator[Difference]:
        files = self._files(part)
        changes = {f: self._versions.change(f, recorded[f]) for f in files if f in recorded}
        found = {
            NEW: {file: "" for file in files if file not in recorded},
            CHANGED: {file: change for file, change in changes.items() if change is not None},
            GONE: {file: "" for file in recorded if self._is_gone(file)},
        }
        for state, its in found.items():
            if its:
                yield self._difference(group, part, state, its, recorded)

    def _is_gone(self, file: str) -> bool:
        # The pictures never are in the bucket: they come from the access service.
        elsewhere = file == str(release.STIMULUS_IMAGES) and release.is_bucket(self._source.root)
        return file not in self._names and not elsewhere

    def _difference(
        self,
        group: str,
        part: Wanted,
        state: str,
        reasons: Mapping[str, str],
        recorded: Mapping[str, Identity],
    ) -> Difference:
        """Difference of a part; `reasons` are its files, and how each differs."""
        nbytes = (
            sum(recorded[file]["size"] for file in reasons)
            if state == GONE
            else self._nbytes(reasons)
        )
        reason = "; ".join(dict.fromkeys(text for text in reasons.values() if text))
        return Difference(group, part.option, part.name, state, tuple(reasons), nbytes, reason)

    def _nbytes(self, files: Iterable[str]) -> int:
        """Bytes of files of the source; those that cannot be read count as empty."""
        total = 0
        for file in files:
            with suppress(*PROBLEMS):
                total += self._source.size(file)
        return total

    def _unknown(self) -> Iterator[Difference]:
        """Unknown kinds of files, by subject."""
        by_subject: dict[str, list[str]] = {}
        for file in release.unknown_files(self._names):
            by_subject.setdefault(release.subject_of(file) or "", []).append(file)
        for subject, files in sorted(by_subject.items()):
            for kind, some in release.kinds_of(files).items():
                yield Difference(subject, "", kind, UNKNOWN, tuple(some), self._nbytes(some), "")


def _recorded(stored: StoredParts) -> dict[str, dict[str, Identity]]:
    """Source files of each stored part that was made from files."""
    found = {name: file_sources(part.sources) for name, part in stored.parts.items()}
    return {name: files for name, files in found.items() if files}
