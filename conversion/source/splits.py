"""Split files: those that are published today, or of a folder, a URL or a zip file."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec

from laion_zarr.conversion.source.json_text import parse_json
from laion_zarr.conversion.source.problems import damaged
from laion_zarr.errors import DataNotDownloadedError, SourceError
from laion_zarr.splits.rules import (
    POOLS,
    Split,
    SplitVariant,
    check_name,
    check_pool,
    names_of,
)

# Where the authors of the dataset publish the split files: repository, commit, folder.
_REPOSITORY, _COMMIT = "ViCCo-Group/LAION-fMRI", "cf82765ced029de81c3bec7254b8cbd6a65e3686"
_FOLDER = "laion_fmri/splits/data"
PUBLISHED = f"https://raw.githubusercontent.com/{_REPOSITORY}/{_COMMIT}/{_FOLDER}"
_REQUESTS_AT_ONCE = 8
_KEYS = {"splitter": str, "params": dict, "n_train": int, "n_test": int, "variants": list}
_SIDES = ("train_ids", "test_ids")


def _all_names() -> list[str]:
    return [f"{pool}/{name}.json" for pool in POOLS for name in names_of(pool)]


def read_published() -> dict[str, bytes]:
    """Fetch the split files that are published today, all of them."""
    names = _all_names()
    found = _fetch(PUBLISHED, names)
    for name in names:
        if name not in found:
            raise _unreachable(f"{PUBLISHED}/{name}", "it is not there")
    return found


def _read_zip(source: str) -> dict[str, bytes]:
    """Read every split file of a zip file, in whatever folder of the zip file it lies."""
    filesystem, path = _opened(source)
    try:
        data = filesystem.cat_file(path)
    except FileNotFoundError as error:
        raise DataNotDownloadedError(f"{source} is not there. Name a folder or a zip.") from error
    except Exception as error:  # of a web server, the libraries raise many types
        raise _unreachable(source, f"{type(error).__name__}: {error}") from error
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            for inside in file.namelist():
                pool, base = f"//{inside}".split("/")[-2:]
                name = f"{pool}/{base}"
                if pool not in POOLS or not name.endswith(".json") or "__MACOSX" in inside:
                    continue
                if name in found:
                    raise damaged(source, f"{name} in two folders", "each split once")
                found[name] = file.read(inside)
    except (zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        # RuntimeError: encrypted, or (NotImplementedError) of a compression unknown to Python
        raise damaged(source, f"one that cannot be read ({error})", "a plain zip file") from error
    return found


def read_splits(source: str) -> dict[str, bytes]:
    """Read every split file of a folder, URL or zip file."""
    if _is_web(source) and not _is_zip(source):  # files of a web server cannot be listed
        found = _fetch(source, _all_names())
    elif _is_zip(source) and not Path(source).is_dir():
        found = _read_zip(source)
    else:
        filesystem, root = _opened(source)
        paths = [path for path in filesystem.find(root, maxdepth=2) if path.endswith(".json")]
        names = sorted("/".join(path.split("/")[-2:]) for path in paths)
        names = [name for name in names if not name.rpartition("/")[2].startswith(".")]
        found = _fetch(source, names)
    if not found:
        there = _is_web(source) or "://" in source or Path(source).exists()
        raise DataNotDownloadedError(
            f"{source} {'holds no split files' if there else 'is not there'}. Expected "
            "POOL/NAME.json, such as shared/tau.json; without a folder, 'laion-zarr splits add' "
            "fetches the published ones."
        )
    return found


def _is_zip(source: str) -> bool:
    return source.partition("?")[0].lower().endswith(".zip")


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


def parse_split(path: str, name: str, data: bytes) -> Split:
    """Parse a split file; check that it matches its file name, and has each image only once."""
    pool, _, stem = name.removesuffix(".json").partition("/")
    try:
        if check_pool(pool) != pool:
            raise ValueError(f"The pool is named {check_pool(pool)}, not {pool}.")
        check_name(stem, pool)
    except ValueError as error:
        raise SourceError(f"{path}: {error} Split files are named POOL/NAME.json.") from None
    content = parse_json(path, data)
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
