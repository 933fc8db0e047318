"""Add split files of the published schema to the store; all splits are stored in one part."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from zarr.abc.store import Store

from laion_zarr import config
from laion_zarr.conversion.parts.split_checks import check_splits
from laion_zarr.conversion.source.problems import damaged
from laion_zarr.conversion.write.catalogue import Catalogue
from laion_zarr.conversion.write.root import finish_root, groups_in, locked, lost_manifests
from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.errors import DataNotDownloadedError, SourceError, StoreError
from laion_zarr.splits.rules import (
    NAMES,
    POOLS,
    Split,
    SplitVariant,
    check_name,
    check_pool,
    generation_of,
    names_of,
    revision_of,
    revisions,
)
from laion_zarr.splits.stored import Key, StoredSplits
from laion_zarr.store import codec
from laion_zarr.store.manifest import parse_root
from laion_zarr.store.objects import StoreLike, fetch, open_store
from laion_zarr.store.parts import Part, StoredParts
from laion_zarr.store.schema import MEMBERSHIP_PART, SPLIT_ARRAYS, SPLITS_GROUP

# Where the authors of the dataset publish the split files: repository, commit, folder.
_REPOSITORY, _COMMIT = "ViCCo-Group/LAION-fMRI", "cf82765ced029de81c3bec7254b8cbd6a65e3686"
_FOLDER = "laion_fmri/splits/data"
PUBLISHED = f"https://raw.githubusercontent.com/{_REPOSITORY}/{_COMMIT}/{_FOLDER}"
_REQUESTS_AT_ONCE = 8
_CHECKSUMS = "published_splits.sha256"  # of the files of May 2026; of later ones none are known
_KEYS = {"splitter": str, "params": dict, "n_train": int, "n_test": int, "variants": list}
_SIDES = {"train_ids": 1, "test_ids": 2}


@dataclass
class SplitsReport:
    """Result of `add_splits`.

    Attributes
    ----------
    added : list of str
        Names of the split files that were added, such as ``"shared/tau.json"``.
    generations : dict of str to list of str
        Names of the added files by published generation, such as ``"random_* revision 1"``.
    own : list of str
        Names of the added files that are of no published generation.
    stored : list of str
        Names of all split files that the store now holds.
    """

    added: list[str] = field(default_factory=list)
    generations: dict[str, list[str]] = field(default_factory=dict)
    own: list[str] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)


def may_checksums() -> dict[str, str]:
    """SHA-256 of each split file that was published in May 2026, by name of the file."""
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
        Folder, URL or zip file with ``<pool>/<name>.json``. If not provided, what is published
        today is fetched. Each file is checked by rule; revisions of a ``random_*`` are kept side by
        side, any other file replaces the one of its pool and name.
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
        If a file does not follow the schema, does not divide the images of its pool, is a
        ``random_*`` of no published revision or against its rule, or if folds overlap; no file is
        then added.
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
    paths = {name: f"{source or PUBLISHED}/{name}" for name in found}
    splits = {name: parse_split(path, name, found[name]) for name, path in paths.items()}
    if source is None:
        _check_today(paths, splits)
    metadata = StoredSplits(there).metadata
    listed = "participant" in metadata and not metadata.empty
    check_splits({paths[name]: splits[name] for name in found}, metadata if listed else None)
    report = SplitsReport(sorted(found))
    for name in report.added:
        generation = _generation(name, splits[name], found[name])
        (report.generations.setdefault(generation, []) if generation else report.own).append(name)
    opened = open_store(place, storage_options, read_only=False)
    with locked(opened):
        report.stored = _store(opened, splits, {n: codec.crc32(d) for n, d in found.items()})
    return report


def _generation(name: str, split: Split, data: bytes) -> str | None:
    """Published generation of a file; None if of none, or if it only says that it is May's."""
    found = generation_of(split)
    if found and "May" in found and may_checksums().get(name) != hashlib.sha256(data).hexdigest():
        return None
    return found


def _check_today(paths: Mapping[str, str], splits: Mapping[str, Split]) -> None:
    """Refuse fetched ``random_*`` of another revision than the one that is published today."""
    for name, split in splits.items():
        newest, found = revisions(split.pool)[-1:], revision_of(split)
        if split.split_family == "random" and (found,) != newest:
            raise damaged(paths[name], f"revision {found} of random_*", f"revision {newest[0]}")


# -- files


def _all_names() -> list[str]:
    return [f"{pool}/{name}.json" for pool in POOLS for name in names_of(pool)]


def _published() -> dict[str, bytes]:
    """Fetch the split files that are published today, all of them."""
    found = _fetch(PUBLISHED, _all_names())
    for name in _all_names():
        if name not in found:
            raise _unreachable(f"{PUBLISHED}/{name}", "it is not there")
    return found


def _read_zip(source: str) -> dict[str, bytes]:
    """Read every split file of a zip file, in whatever folder of the zip file it lies."""
    filesystem, path = _opened(source)
    try:
        with zipfile.ZipFile(io.BytesIO(filesystem.cat_file(path))) as file:
            names = [name for name in file.namelist() if name.endswith(".json") and "/" in name]
            return {"/".join(name.split("/")[-2:]): file.read(name) for name in names}
    except FileNotFoundError as error:
        raise DataNotDownloadedError(f"{source} is not there. Name a folder or a zip.") from error
    except (zipfile.BadZipFile, zlib.error) as error:
        raise damaged(source, f"a damaged one ({error})", "a zip file") from error


def _read_all(source: str) -> dict[str, bytes]:
    """Read every split file of a folder, URL or zip file."""
    names = _all_names()
    if source.endswith(".zip"):
        found = _read_zip(source)
    elif _is_web(source):  # files of a web server cannot be listed
        found = _fetch(source, names)
    else:
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
        check_name(stem, pool)
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
    merged = {_stored_as(split): split for split in stored.values()}
    known = {} if before is None else before.sources
    sources = {name: dict(known.get(name) or known.get(_plain(name), {})) for name in merged}
    for name, split in splits.items():
        merged[_stored_as(split)] = split
        sources[_stored_as(split)] = {"crc32": checksums[name]}
    if before is None or dict(before.sources) != sources:
        path = catalogue.place(MEMBERSHIP_PART)
        part = write_membership(store, path, list(merged.values()), sources)
        catalogue.commit({MEMBERSHIP_PART: part})
        catalogue.tidy()
        finish_root(store, sorted({*groups_in(store), *lost_manifests(store)}))
    return sorted(sources)


def _stored_as(split: Split) -> str:
    """Name of a split in the store: that of its file, with the revision of a ``random_*``."""
    revision = revision_of(split)
    return f"{split.pool}/{split.name}{'' if revision is None else f'@{revision}'}.json"


def _plain(name: str) -> str:
    """Name without the revision, as stores of schema version 1 had it at first."""
    return re.sub(r"@\d", "", name)


def _stored(store: Store) -> tuple[Catalogue, dict[Key, Split]]:
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
    rows = [(split, variant) for split in sorted(splits, key=_place) for variant in split.variants]
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


def _place(split: Split) -> tuple[int, int, int]:
    """Place of a split in the table: by pool, name and revision."""
    return POOLS.index(split.pool), NAMES.index(split.name), revision_of(split) or 0


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
