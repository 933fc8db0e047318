"""Checks that the store is whole, and that it is what the source says.

Reads with other code than converter and reader: zarr-python the store, nibabel the source.
"""

from __future__ import annotations

import copy
import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import zarr
from tqdm.auto import tqdm
from zarr.abc.store import Store
from zarr.core.sync import sync

from laion_zarr import _codec, config
from laion_zarr._schema import (
    ANATOMY_PART,
    MANIFEST,
    METADATA_PART,
    STAGING,
    STIMULI_GROUP,
    SURFACES_PART,
    TRIALS_PART,
    VOXELS_PART,
    is_session_part,
    stimulus_columns,
    trial_columns,
)
from laion_zarr._store import (
    Part,
    StoreLike,
    check,
    damaged,
    fetch,
    location,
    open_store,
    parse_manifest,
    parse_root,
)
from laion_zarr.errors import DataNotDownloadedError, NotConvertedError, StoreError

_VOLUMES_AT_ONCE = 16
# Files fetched together: many small ones, or one large.
_FILES_AT_ONCE = 16
_BYTES_AT_ONCE = 64 << 20


@dataclass
class VerifyReport:
    """What `verify` looked at and found.

    Attributes
    ----------
    problems : list of str
        Everything that is wrong; empty if the store is whole.
    notes : list of str
        What could not be compared, because the source no longer has it.
    n_files, n_bytes, n_values : int
        Objects and bytes checked, values compared with the source.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    n_files: int = 0
    n_bytes: int = 0
    n_values: int = 0


def verify(
    store: StoreLike | None = None,
    source: str | Path | None = None,
    deep: bool = False,
    *,
    storage_options: dict[str, Any] | None = None,
    progress: bool = True,
) -> VerifyReport:
    """Check structure, completeness and every checksum of a store.

    Parameters
    ----------
    store : str, Path or zarr.abc.store.Store, optional
        If not provided, `laion_zarr.config.get_store`.
    source : str or Path, optional
        Data directory: also compare the recorded source files with it.
    deep : bool
        Read the source again and compare every value. If `source` is not provided,
        `laion_zarr.config.get_data_dir`.
    storage_options : dict, optional
        For a store at an fsspec URL.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    VerifyReport
        Without problems.

    Raises
    ------
    StoreError
        If anything is wrong; lists all of it, file by file, and says how to mend it.

    Examples
    --------
    >>> from laion_zarr import verify
    >>> verify(progress=False).problems
    []
    """
    report = run_verification(store, source, deep, storage_options, progress)
    if report.problems:
        lines = "\n".join(f"- {problem}" for problem in report.problems)
        raise StoreError(f"{len(report.problems)} problems:\n{lines}")
    return report


def run_verification(
    store: StoreLike | None,
    source: str | Path | None,
    deep: bool,
    storage_options: dict[str, Any] | None,
    progress: bool,
) -> VerifyReport:
    """`verify` that reports problems instead of raising them."""
    opened = open_store(config.get_store() if store is None else store, storage_options)
    folder = Path(source) if source else config.get_data_dir() if deep else None
    if folder is not None and not folder.is_dir():
        raise DataNotDownloadedError(f"{folder} is not a folder; --source names the mirror.")
    report = VerifyReport()
    _check_root(opened)
    with _default_zarr():
        check_ = _Check(opened, report, folder, progress)
        check_.files()
        # Contents only where the bytes are right: else every error would be said twice.
        if not report.problems:
            check_.contents()
            if folder is not None:
                check_.sources()
            if deep and not report.problems:
                check_.values()
    return report


def _check_root(store: Store) -> None:
    """Refuse what is no store; a damaged root is left to its manifest, which knows its checksum."""
    root, manifest = fetch(store, ["zarr.json", MANIFEST])
    try:
        parse_root(store, root)
    except (StoreError, NotConvertedError) as error:
        try:
            parse_manifest(store, MANIFEST, manifest or b"")
        except StoreError:
            raise error from None


def _default_zarr() -> AbstractContextManager[object]:
    """Zarr as it comes: what a user's settings put in its place proves nothing of the store."""
    (defaults,) = zarr.config.defaults[:1]
    names = ("array", "buffer", "codec_pipeline", "codecs", "ndbuffer")
    return zarr.config.set({name: copy.deepcopy(defaults[name]) for name in names})


@dataclass
class _Check:
    store: Store
    report: VerifyReport
    folder: Path | None
    progress: bool

    def __post_init__(self) -> None:
        self.groups: dict[str, dict[str, Part]] = {}

    @cached_property
    def _root(self) -> Any:
        # Not before the bytes are right: zarr has its own errors for a damaged root.
        # Its types admit any JSON everywhere; the schema says what is where.
        return zarr.open_group(self.store, mode="r", zarr_format=3, use_consolidated=False)

    def problem(self, text: str) -> None:
        self.report.problems.append(text)

    # -- bytes

    def files(self) -> None:
        """Every object that a manifest lists, and none that no manifest lists."""
        expected: dict[str, tuple[int, int] | None] = {MANIFEST: None}
        root = self._manifest(MANIFEST)
        if root is not None:
            expected |= {key: tuple(value) for key, value in root["files"].items()}
            for group in root["groups"]:
                expected |= self._listed(group)
        else:  # what a run that was cut off has finished is whole; the rest cannot be told
            for group in _groups_found(self._keys()):
                expected |= self._listed(group)
        here = set(self._keys()) if root is not None else set()
        for key in sorted(here - set(expected)):
            where = "left by a killed run" if key.startswith(STAGING) else "listed by no manifest"
            self.problem(
                f"{location(self.store, key)} is {where}. The next 'laion-zarr convert' removes it."
            )
        self._check_files({key: value for key, value in expected.items() if value is not None})

    def _keys(self) -> list[str]:
        async def collect() -> list[str]:
            return [key async for key in self.store.list()]

        return sync(collect())

    def _manifest(self, key: str) -> dict[str, Any] | None:
        try:
            (data,) = fetch(self.store, [key])
            if data is None:
                raise _no_manifest(self.store, key)
            return parse_manifest(self.store, key, data)
        except StoreError as error:
            self.problem(str(error))
            return None

    def _listed(self, group: str) -> dict[str, tuple[int, int] | None]:
        key = f"{group}/{MANIFEST}"
        manifest = self._manifest(key)
        if manifest is None:
            # Its files cannot be told from strangers.
            return {k: None for k in self._keys() if k.startswith(f"{group}/")}
        parts = {name: Part.from_json(entry) for name, entry in manifest["parts"].items()}
        self.groups[group] = parts
        listed: dict[str, tuple[int, int] | None] = {key: None}
        listed |= {f"{group}/{name}": tuple(v) for name, v in manifest["files"].items()}
        for part in parts.values():
            listed |= {f"{part.path}/{name}": value for name, value in part.files.items()}
        return listed

    def _check_files(self, expected: dict[str, tuple[int, int]]) -> None:
        keys = sorted(expected)
        total = sum(size for size, _ in expected.values())
        with self._bar(total, "checksums") as bar:
            for batch in _batches(keys, expected):
                for key, data in zip(batch, self._fetch(batch), strict=True):
                    try:
                        check(self.store, key, data, expected[key])
                    except StoreError as error:
                        self.problem(str(error))
                    self.report.n_files += 1
                    self.report.n_bytes += expected[key][0]
                    bar.update(expected[key][0])

    def _fetch(self, keys: list[str]) -> list[bytes | None]:
        try:
            return fetch(self.store, keys)
        except StoreError as error:  # one that cannot be read at all
            if len(keys) == 1:
                self.problem(str(error))
                return [None]
            return [data for key in keys for data in self._fetch([key])]

    def _bar(self, total: int, what: str) -> Any:
        return tqdm(total=total, unit="B", unit_scale=True, desc=what, disable=not self.progress)

    # -- contents

    def contents(self) -> None:
        """Check that the parts of each subject agree with one another."""
        for group, parts in self.groups.items():
            for name in sorted(parts):
                if is_session_part(name):
                    self._session(group, name)
            if TRIALS_PART in parts:
                self._trials(group, parts)

    def _array(self, path: str) -> np.ndarray:
        return np.asarray(self._root[path][...])

    def _session(self, group: str, session: str) -> None:
        path = f"{group}/{session}"
        betas = self._root[f"{path}/betas"]
        voxels = self._array(f"{group}/{VOXELS_PART}/voxel")
        if not np.array_equal(voxels, self._array(f"{path}/voxel")):
            self.problem(f"{location(self.store, path)} has other voxels than {group}/voxels.")
        n_trials = len(self._array(f"{path}/trial"))
        if betas.shape != (len(voxels), n_trials):
            self.problem(
                f"{location(self.store, path)}/betas has shape {betas.shape}, expected "
                f"{(len(voxels), n_trials)}: voxels, trials."
            )
        self._chunk_table(path)

    def _chunk_table(self, path: str) -> None:
        table = self._array(f"{path}/betas_chunks")
        for shard in range(0, len(table), _codec.CHUNKS_PER_SHARD):
            key = f"{path}/betas/c/{shard // _codec.CHUNKS_PER_SHARD}/0"
            data = fetch(self.store, [key])[0] or b""
            for offset, size, crc in table[shard : shard + _codec.CHUNKS_PER_SHARD].tolist():
                if _codec.crc32c(data[offset : offset + size - _codec.CRC_BYTES]) != crc:
                    self.problem(f"{location(self.store, key)}: a chunk is not as listed.")
                    break

    def _trials(self, group: str, parts: dict[str, Part]) -> None:
        sessions = sorted(name for name in parts if is_session_part(name))
        names = [self._array(f"{group}/{session}/image_name") for session in sessions]
        if not np.array_equal(
            np.concatenate(names), self._array(f"{group}/{TRIALS_PART}/image_name")
        ):
            self.problem(f"{location(self.store, group)}/trials does not match its sessions.")

    # -- source files as recorded

    def sources(self) -> None:
        """Check that the source files are still those that were converted."""
        assert self.folder is not None
        for group, parts in self.groups.items():
            for name, part in parts.items():
                for file, identity in part.sources.items():
                    if "size" in identity:
                        self._source(f"{group} {name}", self.folder / file, identity)

    def _source(self, what: str, path: Path, identity: Any) -> None:
        if not path.is_file():
            self.report.notes.append(f"{what}: {path} is not there; not compared.")
            return
        found = {"size": path.stat().st_size, "crc32": _content_crc(path)}
        if found != dict(identity):
            self.problem(
                f"{what}: {path} is not the file that was converted. Run 'laion-zarr convert' to "
                "take the new one."
            )

    # -- values

    def values(self) -> None:
        """Read the source with nibabel and compare every value."""
        for group, parts in self.groups.items():
            if group == STIMULI_GROUP:
                self._compare_table(f"{group}/{METADATA_PART}", parts.get(METADATA_PART), ",")
                continue
            shape = tuple(self._root[f"{group}/{VOXELS_PART}"].attrs["shape"])
            voxels = self._array(f"{group}/{VOXELS_PART}/voxel")
            ijk = np.unravel_index(voxels, shape)
            self._compare_voxels(group, ijk)
            for name, part in sorted(parts.items()):
                if is_session_part(name):
                    self._compare_betas(f"{group}/{name}", ijk)
                    self._compare_table(f"{group}/{name}", part, "\t")
                elif name.startswith("maps/"):
                    self._compare_maps(f"{group}/{name}", ijk)
                elif name == ANATOMY_PART:
                    self._compare_maps(f"{group}/{name}", ())
                elif name == SURFACES_PART:
                    self._compare_surfaces(f"{group}/{name}")

    def _load(self, file: str) -> Any:
        """A source image, or None where it is gone."""
        assert self.folder is not None
        path = self.folder / file
        # Kept open, so that reading on inflates on, instead of from the start.
        return nib.load(path, keep_file_open=True) if path.is_file() else None

    def _same(self, where: str, stored: np.ndarray, source: np.ndarray) -> None:
        """Compare values; NaN only equals NaN."""
        with np.errstate(over="ignore", invalid="ignore"):  # as the converter rounds
            source = source.astype(stored.dtype, copy=False)
        if stored.shape != source.shape:
            self.problem(f"{where}: {stored.shape} values, the source has {source.shape}.")
            return
        equal = stored == source
        if stored.dtype.kind == "f":
            equal |= np.isnan(stored) & np.isnan(source)
        self.report.n_values += stored.size
        if not equal.all():
            self.problem(
                f"{where}: {int((~equal).sum()):,} of {stored.size:,} values differ from the "
                "source. Convert it again with 'laion-zarr convert --overwrite'."
            )

    def _compare_betas(self, path: str, ijk: tuple[np.ndarray, ...]) -> None:
        array = self._root[f"{path}/betas"]
        image = self._load(array.attrs["source"]["file"])
        if image is None:
            return
        stored = np.asarray(array[...])
        n_trials = stored.shape[1]
        with self._bar(stored.nbytes, path) as bar:
            for lo in range(0, n_trials, _VOLUMES_AT_ONCE):
                hi = min(lo + _VOLUMES_AT_ONCE, n_trials)
                block = np.asanyarray(image.dataobj[..., lo:hi])[ijk]
                self._same(f"{path}/betas, trials {lo}-{hi - 1}", stored[:, lo:hi], block)
                bar.update(stored[:, lo:hi].nbytes)

    def _compare_maps(self, path: str, where: tuple[np.ndarray, ...]) -> None:
        """Compare 3-D images at some voxels, or whole."""
        for name, array in self._root[path].arrays():
            if "source" in array.attrs:
                image = self._load(array.attrs["source"]["file"])
                if image is not None:
                    values = np.asanyarray(image.dataobj)[where]
                    stored = np.asarray(array[...])
                    self._same(f"{path}/{name}", stored, _as(values, stored.dtype))

    def _compare_voxels(self, group: str, ijk: tuple[np.ndarray, ...]) -> None:
        path = f"{group}/{VOXELS_PART}"
        for what, entry in self._root[path].attrs["sources"].items():
            image = self._load(entry["source"]["file"])
            if image is not None:
                volume = np.asanyarray(image.dataobj)
                stored = self._voxel_row(path, *what.partition(":")[::2])
                self._same(f"{path} {what}", stored, _as(volume[ijk], stored.dtype))
                if stored.dtype == bool and f"in_{what}" in self._root[path]:
                    # A mask must be stored whole.
                    self._same(f"{path} {what} size", stored.sum(), (volume != 0).sum())

    def _voxel_row(self, path: str, kind: str, name: str) -> np.ndarray:
        if not name:
            return self._array(f"{path}/in_{kind}")
        names = self._array(f"{path}/{kind}").tolist()
        values = "roi_mask" if kind == "roi" else "noise_ceiling"
        return self._array(f"{path}/{values}")[names.index(name)]

    def _compare_table(self, path: str, part: Part | None, separator: str) -> None:
        for file in part.sources if part else ():
            assert self.folder is not None
            if file.endswith((".tsv", ".csv")) and (self.folder / file).is_file():
                text = (self.folder / file).read_bytes()
                table = pd.read_csv(io.BytesIO(text), sep=separator, keep_default_na=False)
                if "beta_index" in table:
                    table = table.set_index("beta_index", drop=False).sort_index()
                of_trials = separator == "\t"
                arrays = (trial_columns if of_trials else stimulus_columns)(table.columns)
                for name, array in arrays.items():
                    self._same_column(f"{path}/{name}", self._array(f"{path}/{array}"), table[name])

    def _same_column(self, where: str, stored: np.ndarray, column: pd.Series) -> None:
        if stored.dtype.kind in "iufb":
            self._same(where, stored, pd.to_numeric(column, errors="coerce").to_numpy())
        else:
            self._same(where, stored.astype(object), column.astype(str).to_numpy(object))

    def _compare_surfaces(self, path: str) -> None:
        for node in self._root[path].group_keys():
            for name, array in self._root[f"{path}/{node}"].arrays():
                self._compare_surface(f"{path}/{node}/{name}", array)

    def _compare_surface(self, where: str, array: Any) -> None:
        assert self.folder is not None
        path = self.folder / array.attrs["source"]["file"]
        if not path.is_file():
            return
        if path.name.endswith(".func.gii"):
            image = nib.gifti.GiftiImage.from_filename(path)
            self._same(where, np.asarray(array[...]), image.darrays[0].data.ravel() != 0)
        else:
            with warnings.catch_warnings():  # that an empty label has no data
                warnings.simplefilter("ignore", UserWarning)
                vertices = np.atleast_1d(nib.freesurfer.read_label(path))
            self._same(where, np.asarray(array[...]), vertices)


def _groups_found(keys: list[str]) -> list[str]:
    """Groups with a manifest."""
    return sorted({key.split("/")[0] for key in keys if key.endswith(f"/{MANIFEST}")})


def _batches(keys: list[str], sizes: dict[str, tuple[int, int]]) -> Iterator[list[str]]:
    batch: list[str] = []
    nbytes = 0
    for key in keys:
        if batch and (len(batch) == _FILES_AT_ONCE or nbytes + sizes[key][0] > _BYTES_AT_ONCE):
            yield batch
            batch, nbytes = [], 0
        batch.append(key)
        nbytes += sizes[key][0]
    if batch:
        yield batch


def _no_manifest(store: Store, key: str) -> StoreError:
    if key != MANIFEST:
        return damaged(store, key, "is missing")
    return StoreError(  # the last that a run writes
        f"{location(store, key)} is missing: the last conversion did not finish. Run the same "
        "'laion-zarr convert' again."
    )


def _as(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A mask as booleans; other values are rounded where they are compared."""
    return values != 0 if dtype.kind == "b" else values


def _content_crc(path: Path) -> int:
    with path.open("rb") as file:
        if path.suffix == ".gz":
            file.seek(-8, io.SEEK_END)
            return int.from_bytes(file.read(4), "little")
        crc = 0
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
        return crc
