"""Shared by all checks of a store: checksums against manifests, values against the source.

Arrays of the store are read with zarr-python, not with the array readers of laion_zarr.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from tqdm.auto import tqdm
from zarr.abc.store import Store
from zarr.core.sync import sync

from laion_zarr.conversion.options import VerifyReport
from laion_zarr.conversion.verification.sources import difference
from laion_zarr.conversion.verification.vetting import (
    Vetted,
    vet_node,
    vet_payload,
    vet_shard,
)
from laion_zarr.errors import StoreError
from laion_zarr.store import codec
from laion_zarr.store.bounds.nodes import array_bytes
from laion_zarr.store.bounds.tables import shards_of
from laion_zarr.store.bounds.text import MOST_NODE, OutOfBounds, printable
from laion_zarr.store.causes import cause_of
from laion_zarr.store.disk import DiskStore
from laion_zarr.store.manifest import parse_manifest, read_texts
from laion_zarr.store.objects import Memory, check, damaged, fetch, fetch_spans, location
from laion_zarr.store.parts import Part
from laion_zarr.store.schema import MANIFEST, PARTIAL, STAGING, ArraySpec, chunk_table

# Limits of a batch of objects that are fetched together: many small objects, or a large one.
_FILES_AT_ONCE = 16
_BYTES_AT_ONCE = 64 << 20
_PIECE = 32 << 20  # of a larger object, which a disk gives piece by piece


@dataclass
class Check:
    """State of one verification of one store, shared by the checks of its groups.

    Attributes
    ----------
    store : zarr.abc.store.Store
        The open store.
    report : VerifyReport
        Collects problems, notes and counts.
    folder : Path or None
        Local mirror to compare with; None if nothing is compared.
    progress : bool
        Whether to show progress bars.
    """

    store: Store
    report: VerifyReport
    folder: Path | None
    progress: bool

    def __post_init__(self) -> None:
        self.groups: dict[str, dict[str, Part]] = {}
        self._others: set[Path] = set()  # source files that are not those that were converted
        self._vetted: dict[str, Vetted] = {}  # chunk -> what it must be

    @cached_property
    def root(self) -> Any:
        """Root group of the store, opened with zarr-python."""
        # Opened only after all checksums were right: zarr raises other errors for a damaged root.
        # Typed Any: zarr's types allow any JSON value as an attribute, the schema fixes the types.
        return zarr.open_group(self.store, mode="r", zarr_format=3, use_consolidated=False)

    def problem(self, text: str) -> None:
        """Add a problem to the report."""
        self.report.problems.append(printable(text))

    def array(self, path: str) -> np.ndarray:
        """Read a whole array with zarr-python."""
        return np.asarray(self.root[path][...])

    def bar(self, total: int, what: str) -> Any:
        """Progress bar that counts bytes; `what` is its title."""
        return tqdm(total=total, unit="B", unit_scale=True, desc=what, disable=not self.progress)

    # -- bytes

    def files(self) -> None:
        """Check size and checksum of every listed object; report objects that no manifest lists."""
        expected: dict[str, tuple[int, int] | None] = {MANIFEST: None}
        root = self._manifest(MANIFEST)
        if root is not None:
            expected |= {key: tuple(value) for key, value in root["files"].items()}
            for group in root["groups"]:
                expected |= self._listed(group)
        else:  # conversion interrupted or manifest damaged: check the groups with a manifest
            for group in _groups_found(self._keys()):
                expected |= self._listed(group)
        here = set(self._keys()) if root is not None else set()
        strays = here - set(expected)
        staged = {key for key in strays if key.startswith(STAGING)}
        for key in sorted((strays - staged) | {"/".join(key.split("/")[:2]) for key in staged}):
            where = "left by a killed run" if key.startswith(STAGING) else "listed by no manifest"
            mend = "The next 'laion-zarr convert' removes it"
            if "/" not in key and not PARTIAL.fullmatch(key):
                mend = "Move it away: 'laion-zarr convert' did not make it, and leaves it alone"
            self.problem(f"{location(self.store, key)} is {where}. {mend}.")
        sized = {key: value for key, value in expected.items() if value is not None}
        wrong = self._vet()
        self._check_files({key: value for key, value in sized.items() if key not in wrong})

    def _vet(self) -> set[str]:
        """Vet the nodes of all parts; returns the chunks of those that are wrong, to leave out."""
        wrong: set[str] = set()
        for parts in self.groups.values():
            for name, part in parts.items():
                nodes = [key for key in part.files if key.endswith("zarr.json")]
                wrong |= self._vet_keys(part, nodes)
                paths = [f"{part.path}/{key}" for key in nodes if part.files[key][0] <= MOST_NODE]
                for batch in _batches(paths, dict.fromkeys(paths, (0, 0))):
                    for path, data in zip(batch, self._fetch(batch, MOST_NODE), strict=True):
                        wrong |= self._vet_node(name, part, path, data)
        return wrong

    def _vet_keys(self, part: Part, nodes: list[str]) -> set[str]:
        """Objects that are none of an array or group, or metadata of a size that none has."""
        arrays = {*part.arrays()}
        chunks = {f"{name}/c/{chunk}" for name in arrays for chunk in part.chunks(name)}
        wrong = {*part.files} - chunks - {*nodes}
        wrong |= {key for key in nodes if part.files[key][0] > MOST_NODE}
        for key in sorted(wrong):
            what = f"is listed with {part.files[key][0]:,} bytes, and is no object of an array"
            self.problem(str(damaged(self.store, f"{part.path}/{key}", what)))
        return {f"{part.path}/{key}" for key in wrong}

    def _vet_node(
        self, name: str, part: Part, path: str, data: bytes | StoreError | None
    ) -> set[str]:
        key = path.removeprefix(f"{part.path}/")
        node = key.removesuffix("zarr.json").rstrip("/")
        chunks = {f"{part.path}/{node}/c/{n}": size for n, size in part.chunks(node).items()}
        if not isinstance(data, bytes) or (len(data), codec.crc32(data)) != part.files[key]:
            # Found with all other damage, as chunks are; but what would they be held against?
            return {key for key in chunks if chunks[key] > _BYTES_AT_ONCE}
        try:
            vetted = vet_node(name, part, node, data)
        except OutOfBounds as error:
            self.problem(str(damaged(self.store, path, str(error))))
            return {*chunks}
        if vetted is not None:
            self._vetted |= dict.fromkeys(chunks, vetted)
        return set()

    def _keys(self) -> list[str]:
        async def collect() -> list[str]:
            return [key async for key in self.store.list()]

        return sync(collect())

    def _manifest(self, key: str) -> dict[str, Any] | None:
        try:
            (data,) = read_texts(self.store, [key])
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
            # Without the manifest, unlisted files of the group cannot be told apart: report none.
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
        with self.bar(total, "checksums") as bar:
            for batch in _batches(keys, expected):
                most = max(expected[key][0] for key in batch)
                whole = most <= _BYTES_AT_ONCE or not isinstance(self.store, DiskStore)
                found = self._fetch(batch, most) if whole else [None] * len(batch)
                for key, data in zip(batch, found, strict=True):
                    try:
                        if whole:
                            self._check_object(key, data, expected[key])
                        else:
                            self._check_in_pieces(key, expected[key])
                    except StoreError as error:
                        self.problem(str(error))
                    self.report.n_files += 1
                    self.report.n_bytes += expected[key][0]
                    bar.update(expected[key][0])

    def _check_object(
        self, key: str, data: bytes | StoreError | None, expected: tuple[int, int]
    ) -> None:
        if isinstance(data, StoreError):
            raise data
        whole = check(self.store, key, data, expected)
        try:
            if key in self._vetted:
                vet_payload(self._vetted[key], whole)
        except (ValueError, RuntimeError) as error:
            raise damaged(self.store, key, f"cannot be decoded: {error}") from error

    def _check_in_pieces(self, key: str, expected: tuple[int, int]) -> None:
        """Compare a large object of a disk with its size and checksum, without holding it."""
        found, crc = 0, 0
        for piece in self._pieces(key, 0, expected[0] + 1):
            found, crc = found + len(piece), codec.crc32(piece, crc)
        if found != expected[0]:
            raise damaged(self.store, key, f"has {found:,} bytes, expected {expected[0]:,}")
        if crc != expected[1]:
            raise damaged(self.store, key, "does not match its checksum")

    def _pieces(self, key: str, start: int, end: int) -> Iterator[np.ndarray]:
        """Bytes of an object, in order, until its end; each piece is valid until the next."""
        buffer = Memory()
        for lo in range(start, end, _PIECE):
            hi = min(lo + _PIECE, end)
            (data,) = fetch_spans(self.store, [(key, (lo, hi))], buffer)
            if data is None:
                raise damaged(self.store, key, "is missing")
            yield data
            if len(data) < hi - lo:
                return

    def _fetch(self, keys: list[str], most: int) -> list[bytes | StoreError | None]:
        try:
            return list(fetch(self.store, keys, [most] * len(keys)))
        except StoreError as error:  # an object cannot be read: fetch each of the batch alone
            if len(keys) == 1:
                return [error]
            return [data for key in keys for data in self._fetch([key], most)]

    # -- contents

    def chunk_table(self, path: str, spec: ArraySpec) -> None:
        """Check each chunk in the shards against the chunk table, and the size it inflates to."""
        assert spec.chunking is not None
        group, _, name = path.partition("/")
        part, chunking = self.groups[group][name], spec.chunking
        table = self.array(f"{path}/{chunk_table(spec.name).name}")
        shape, sizes = self.root[f"{path}/{spec.name}"].shape, part.chunks(spec.name)
        nbytes = array_bytes(spec.dtype, (chunking.rows, *chunking.row(shape)))
        try:
            shards = shards_of(table, chunking, shape, sizes)
        except OutOfBounds as error:
            key = f"{path}/{chunk_table(spec.name).name}/c/0/0"
            self.problem(str(damaged(self.store, key, str(error))))
            return
        for shard, rows in shards.items():
            key, size = f"{path}/{spec.name}/c/{shard}", sizes[shard]
            try:
                vet_shard(self.store, key, rows.astype(np.int64), size, (chunking, nbytes))
            except OutOfBounds as error:
                self.problem(str(damaged(self.store, key, f"cannot be decoded: {error}")))
            except StoreError as error:
                self.problem(str(error))

    # -- source files as recorded

    def sources(self) -> None:
        """Check size and checksums of the source files against those recorded by the conversion."""
        assert self.folder is not None
        for group, parts in self.groups.items():
            for name, part in parts.items():
                for file, identity in part.sources.items():
                    if "size" in identity:
                        self._source(f"{group} {name}", self.folder / file, identity)

    def _source(self, what: str, path: Path, identity: Any) -> None:
        try:
            there = path.is_file()
        except OSError as error:
            self._others.add(path)
            self.problem(f"{what}: {path} cannot be read: {cause_of(error)}.")
            return
        if not there:
            self.report.notes.append(f"{what}: {path} is not there; not compared.")
            return
        if (wrong := difference(path, identity)) is not None:
            self._others.add(path)
            self.problem(f"{what}: {path} {wrong}.")

    def converted(self, path: Path) -> bool:
        """Whether a source file is there, and no other than the one that was converted."""
        return path not in self._others and path.is_file()

    # -- values

    def same(self, where: str, stored: np.ndarray, source: np.ndarray) -> None:
        """Compare stored values with source values; NaN equals only NaN."""
        with np.errstate(over="ignore", invalid="ignore"):  # the converter casts in this way
            source = source.astype(stored.dtype, copy=False)
        if stored.shape != source.shape:
            self.problem(
                f"{where}: {stored.shape} values, the source has {source.shape}. Convert it again "
                "with 'laion-zarr convert --overwrite'."
            )
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

    def same_table(self, path: str, table: pd.DataFrame, arrays: dict[str, str]) -> None:
        """Compare the columns of a source table, read as text, with the arrays that store them."""
        for name, array in arrays.items():
            self._same_column(f"{path}/{name}", self.array(f"{path}/{array}"), table[name])

    def _same_column(self, where: str, stored: np.ndarray, column: pd.Series) -> None:
        if stored.dtype.kind == "b":
            self.same(where, stored, (column == "True").to_numpy())
        elif stored.dtype.kind in "iuf":
            self.same(where, stored, pd.to_numeric(column, errors="coerce").to_numpy())
        else:
            self.same(where, stored.astype(object), column.to_numpy(object))


def _groups_found(keys: list[str]) -> list[str]:
    """Names of the groups that have a manifest."""
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
    return StoreError(  # a run writes the root's manifest last
        f"{location(store, key)} is missing: the last conversion did not finish. Run the same "
        "'laion-zarr convert' again."
    )


def as_stored(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values of a mask as booleans; other values unchanged, since `Check.same` rounds them."""
    return values != 0 if dtype.kind == "b" else values
