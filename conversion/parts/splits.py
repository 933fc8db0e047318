"""Add split files of the published schema to the store; all splits are stored in one part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from zarr.abc.store import Store

from laion_zarr import config
from laion_zarr.conversion.source.problems import damaged
from laion_zarr.conversion.write.catalogue import Catalogue
from laion_zarr.conversion.write.root import finish_root, groups_in, locked, lost_manifests
from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.errors import DataNotDownloadedError, SourceError, StoreError
from laion_zarr.splits.rules import NAMES, POOLS, Split, SplitVariant, check_name, check_pool
from laion_zarr.splits.stored import StoredSplits
from laion_zarr.store import codec
from laion_zarr.store.manifest import parse_root
from laion_zarr.store.objects import StoreLike, fetch, open_store
from laion_zarr.store.parts import Part, StoredParts
from laion_zarr.store.schema import MEMBERSHIP_PART, SPLIT_ARRAYS, SPLITS_GROUP

# Where the authors of the dataset publish the split files: repository, commit, folder.
_REPOSITORY, _COMMIT = "ViCCo-Group/LAION-fMRI", "eee8400aa3214f310b840397f9f043b9c2da79b0"
_FOLDER = "laion_fmri/splits/data"
PUBLISHED = f"https://raw.githubusercontent.com/{_REPOSITORY}/{_COMMIT}/{_FOLDER}"
_REQUESTS_AT_ONCE = 8
_CHECKSUMS = "published_splits.sha256"
_KEYS = {"splitter": str, "params": dict, "n_train": int, "n_test": int, "variants": list}
_SIDES = {"train_ids": 1, "test_ids": 2}


@dataclass
class SplitsReport:
    """Result of `add_splits`.

    Attributes
    ----------
    added : list of str
        Names of the split files that were added, such as ``"shared/tau.json"``.
    published : list of str
        Names of the added files that equal the published files byte for byte.
    stored : list of str
        Names of all split files that the store now holds.
    """

    added: list[str] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)


def published_checksums() -> dict[str, str]:
    """SHA-256 of each published split file, by name of the file."""
    text = files("laion_zarr.conversion.parts").joinpath(_CHECKSUMS).read_text()
    return {name: checksum for checksum, name in map(str.split, text.splitlines())}


def add_splits(
    source: str | Path | None = None,
    store: StoreLike | None = None,
    *,
    storage_options: dict[str, Any] | None = None,
) -> SplitsReport:
    """Add split files to the store; stored splits of other pools and names are kept.

    Parameters
    ----------
    source : str or Path, optional
        Folder or URL with files ``<pool>/<name>.json``. If not provided, the published files are
        fetched, and checked against known checksums.
    store : str, Path or zarr.abc.store.Store, optional
        Store to add the splits to. If not provided, `laion_zarr.config.get_store`.
    storage_options : dict, optional
        Options of fsspec for a store at a URL.

    Returns
    -------
    SplitsReport

    Raises
    ------
    SourceError
        If a file does not follow the schema, its counts are wrong, or an image is in both train and
        test; no file is then added.
    DataNotDownloadedError
        If there are no split files, or they cannot be fetched.
    NotConvertedError, StoreError
        If there is no store, or its root is damaged.

    Examples
    --------
    >>> from laion_zarr.conversion import add_splits
    >>> add_splits("splits")  # doctest: +SKIP
    """
    place = config.get_store() if store is None else store
    there = open_store(place, storage_options)  # read-only: a missing store is not created
    parse_root(there, fetch(there, ["zarr.json"])[0])
    found = _published() if source is None else _read_all(str(source))
    splits = {
        name: parse_split(f"{source or PUBLISHED}/{name}", name, found[name]) for name in found
    }
    known = published_checksums()
    report = SplitsReport(sorted(found))
    report.published = [n for n in report.added if known.get(n) == _sha256(found[n])]
    opened = open_store(place, storage_options, read_only=False)
    with locked(opened):
        report.stored = _store(opened, splits, {n: codec.crc32(d) for n, d in found.items()})
    return report


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- files


def _published() -> dict[str, bytes]:
    """Fetch the published split files and check their SHA-256."""
    known = published_checksums()
    found = _fetch(PUBLISHED, known)
    for name, checksum in known.items():
        if name not in found:
            raise _unreachable(f"{PUBLISHED}/{name}", "it is not there")
        if _sha256(found[name]) != checksum:
            url = f"{PUBLISHED}/{name}"
            raise damaged(url, f"SHA-256 {_sha256(found[name])}", f"SHA-256 {checksum}")
    return found


def _read_all(source: str) -> dict[str, bytes]:
    """Read every split file of a folder or URL."""
    names = [f"{pool}/{name}.json" for pool in POOLS for name in NAMES]
    if not _is_web(source):  # files of a web server cannot be listed
        filesystem, root = _opened(source)
        paths = filesystem.glob(f"{root}/*/*.json")
        names = sorted("/".join(path.split("/")[-2:]) for path in paths)
    found = _fetch(source, names)
    if not found:
        raise DataNotDownloadedError(
            f"{source} holds no split files. Expected POOL/NAME.json, such as shared/tau.json; "
            "without a folder, 'laion-zarr splits add' fetches the published ones."
        )
    return found


def _is_web(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _opened(source: str) -> tuple[Any, str]:
    """File system (fsspec) of a folder or URL, and its path in this file system."""
    place = source if "://" in source else str(Path(source).expanduser().absolute())
    # Clusters often reach the internet through a proxy, which is set in the environment.
    options: dict[str, Any] = {"client_kwargs": {"trust_env": True}} if _is_web(source) else {}
    filesystem, root = fsspec.url_to_fs(place.rstrip("/"), **options)
    return filesystem, root


def _fetch(source: str, names: Iterable[str]) -> dict[str, bytes]:
    """Content of files below a folder or URL, by name; files that do not exist are left out."""
    filesystem, root = _opened(source)
    urls = {f"{root}/{name}": name for name in names}
    batches = {"batch_size": _REQUESTS_AT_ONCE} if _is_web(source) else {}
    found = filesystem.cat(list(urls), on_error="return", **batches) if urls else {}
    whole = {}
    for url, name in urls.items():
        data = found[url]
        if isinstance(data, bytes):
            whole[name] = data
        elif not isinstance(data, FileNotFoundError):
            raise _unreachable(f"{source}/{name}", f"{type(data).__name__}: {data}") from data
    return whole


def _unreachable(what: str, reason: str) -> DataNotDownloadedError:
    return DataNotDownloadedError(
        f"{what} cannot be read ({reason}). Run the same command again, or download {_FOLDER} of "
        f"https://github.com/{_REPOSITORY}/tree/{_COMMIT} and name it: laion-zarr splits add DIR."
    )


# -- the schema


def parse_split(path: str, name: str, data: bytes) -> Split:
    """Parse a split file; check that it matches its file name, and has each image only once."""
    pool, _, stem = name.removesuffix(".json").partition("/")
    try:
        if check_pool(pool) != pool:
            raise ValueError(f"The pool is named {check_pool(pool)}, not {pool}.")
        check_name(stem)
    except ValueError as error:
        raise SourceError(f"{path}: {error} Split files are named POOL/NAME.json.") from None
    try:
        content = json.loads(data)
    except ValueError as error:
        raise damaged(path, f"text that is not JSON ({error})", "JSON") from error
    if not isinstance(content, dict) or content.get("name") != stem:
        found = content.get("name") if isinstance(content, dict) else type(content).__name__
        raise damaged(path, f"name {found!r}", f"name {stem!r}")
    for key, kind in _KEYS.items():
        if type(content.get(key)) is not kind:
            raise damaged(path, f"{key} {content.get(key)!r}", f"{key}, {kind.__name__}")
    sizes = (content["n_train"], content["n_test"])
    variants = [_variant(path, variant, sizes) for variant in content["variants"]]
    ids = [variant.variant_id for variant in variants]
    if not ids or len(set(ids)) < len(ids):
        raise damaged(path, f"variants {ids}", "one or more variants, each id once")
    return Split(stem, pool, content["splitter"], content["params"], *sizes, variants)


def _variant(path: str, content: Any, sizes: tuple[int, int]) -> SplitVariant:
    given = content if isinstance(content, dict) else {}
    number = given.get("variant_id")
    if type(number) is not int or not 0 <= number < 1 << 31:
        raise damaged(path, f"variant_id {number!r}", "a whole number")
    for key, size in zip(_SIDES, sizes, strict=True):
        ids = given.get(key)
        if not isinstance(ids, list) or not all(isinstance(label, str) for label in ids):
            raise damaged(path, f"{key} that are no list of image names", "image names")
        if len(ids) != size:
            raise damaged(path, f"{len(ids):,} {key}", f"{size:,}, as n_{key[:-4]} says")
        if ids != sorted(set(ids)):
            raise damaged(
                path, f"{key} out of order or twice", "each once, sorted as plain strings"
            )
    if both := set(given["train_ids"]) & set(given["test_ids"]):
        raise damaged(path, f"{min(both)!r} on both sides", "each image on one side")
    return SplitVariant(number, given["train_ids"], given["test_ids"])


# -- the store


def _store(store: Store, splits: Mapping[str, Split], checksums: Mapping[str, int]) -> list[str]:
    """Write the stored and the new splits as one part; returns the names of all split files."""
    catalogue, stored = _stored(store)
    before = catalogue.parts.get(MEMBERSHIP_PART)
    sources = {} if before is None else {name: dict(crc) for name, crc in before.sources.items()}
    sources |= {name: {"crc32": checksum} for name, checksum in checksums.items()}
    if before is None or dict(before.sources) != sources:
        merged = {f"{pool}/{name}.json": split for (pool, name), split in stored.items()}
        path = catalogue.place(MEMBERSHIP_PART)
        part = write_membership(store, path, list((merged | dict(splits)).values()), sources)
        catalogue.commit({MEMBERSHIP_PART: part})
        catalogue.tidy()
        finish_root(store, sorted({*groups_in(store), *lost_manifests(store)}))
    return sorted(sources)


def _stored(store: Store) -> tuple[Catalogue, dict[tuple[str, str], Split]]:
    """Catalogue of the splits, and the stored splits; both are empty if the stored are damaged."""
    try:
        catalogue = Catalogue(store, SPLITS_GROUP)
        catalogue.recover()
        if MEMBERSHIP_PART not in catalogue.parts:
            return catalogue, {}
        stored, part = StoredParts(store, SPLITS_GROUP), catalogue.parts[MEMBERSHIP_PART]
        stored.read(part, part.files)  # compares every object with its checksum
        return catalogue, StoredSplits(store).stored()
    except StoreError:
        return Catalogue(store, SPLITS_GROUP, ignore_manifest=True), {}


def write_membership(
    store: Store, path: str, splits: Iterable[Split], sources: Mapping[str, Mapping[str, int]]
) -> Part:
    """Write splits: a table of variants, and each image's side (train, test) in each variant."""
    rows = [
        (split, variant)
        for split in sorted(splits, key=lambda s: (POOLS.index(s.pool), NAMES.index(s.name)))
        for variant in split.variants
    ]
    names, sides = _sides([variant for _, variant in rows])
    columns = {
        "pool": [split.pool for split, _ in rows],
        "name": [split.name for split, _ in rows],
        "variant_id": [variant.variant_id for _, variant in rows],
        "splitter": [split.splitter for split, _ in rows],
        "params": [json.dumps(split.params, ensure_ascii=False) for split, _ in rows],
        "image_name": names,
        "side": sides,
    }
    writer = PartWriter(store, path)
    for name, values in columns.items():
        spec = SPLIT_ARRAYS[name]
        writer.array(spec, np.asarray(values, object if spec.dtype == "string" else spec.dtype))
    writer.group({"description": "train and test images of every split; see laion_zarr.splits"})
    return writer.part(sources)


def _sides(variants: list[SplitVariant]) -> tuple[list[str], np.ndarray]:
    """Names of all images, and the side of each image in each variant, (split, image) int8."""
    held: dict[str, list[int]] = {}
    for row, variant in enumerate(variants):
        for label in variant.all_ids():
            held.setdefault(label, []).append(row)
    # Images that are in the same variants are adjacent: a fifth of the bytes of a plain order.
    names = sorted(held, key=lambda label: (held[label], label))
    place = {label: n for n, label in enumerate(names)}
    sides = np.zeros((len(variants), len(names)), dtype=np.int8)
    for row, variant in enumerate(variants):
        for key, side in _SIDES.items():
            sides[row, [place[label] for label in getattr(variant, key)]] = side
    return names, sides
