"""Create, check and lock the root of a store, and consolidate its metadata after a run."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import LocalStore

from laion_zarr.conversion.write.catalogue import Catalogue, prune
from laion_zarr.conversion.write.metadata import consolidated, group_metadata
from laion_zarr.conversion.write.writer import changing, delete, delete_below, keys_below, put
from laion_zarr.errors import NotConvertedError, StoreError, StoreVersionError
from laion_zarr.store import codec
from laion_zarr.store.bounds.nodes import parse_node
from laion_zarr.store.bounds.text import MOST_NODE, OutOfBounds, check_keys, parse
from laion_zarr.store.causes import NO_LOCKS, cause_of
from laion_zarr.store.manifest import dump_manifest, parse_manifest, parse_root, read_texts
from laion_zarr.store.objects import check, fetch, location
from laion_zarr.store.schema import (
    MANIFEST,
    PARTIAL,
    ROOT_ATTRIBUTE,
    SCHEMA_VERSION,
    SPLITS_GROUP,
    STAGING,
    STIMULI_GROUP,
)

log = logging.getLogger("laion_zarr")

_SPARE = 64 << 20  # bytes of disk for small parts, which no plan counts


def prepare_root(store: Store, overwrite: bool = False) -> None:
    """Create the root group, or check that the existing one is a store of this schema.

    Parameters
    ----------
    store : zarr.abc.store.Store
        Open for writing.
    overwrite : bool
        Whether to replace a root ``zarr.json`` of another schema version, if the root manifest is
        of this version: the ``zarr.json`` then counts as damaged.

    Raises
    ------
    StoreError
        If the folder holds files of another kind, which the converter must not remove.
    """
    empty = group_metadata({ROOT_ATTRIBUTE: {"schema_version": SCHEMA_VERSION}})
    root, manifest = read_texts(store, ["zarr.json", MANIFEST])
    ours = manifest is not None and _is_ours(store, manifest)
    whole = False
    try:
        parse_root(store, root)
        whole = True
    except NotConvertedError:
        if not ours and (others := [n for n in _names_in(store) if not PARTIAL.fullmatch(n)]):
            raise StoreError(
                f"{location(store)} holds {', '.join(others[:3])} and is no laion_zarr store. Name "
                "a new folder with --store."
            ) from None
    except StoreVersionError:
        if not (ours and overwrite):
            raise
    except StoreError:
        if not ours:
            raise
    if isinstance(store, LocalStore):  # an empty folder may have the name of a file to write
        for folder in filter(Path.is_dir, store.root.iterdir()):
            prune(folder)
    if not whole:
        put(store, "zarr.json", empty)


def _is_ours(store: Store, manifest: bytes) -> bool:
    """Whether the root manifest is valid; the end of the run writes a damaged one again."""
    try:
        parse_manifest(store, MANIFEST, manifest)
    except StoreVersionError:
        raise
    except StoreError:
        return False
    return True


def _names_in(store: Store) -> list[str]:
    async def collect() -> list[str]:
        return [name async for name in store.list_dir("")]

    return sorted(name.strip("/").rpartition("/")[2] for name in sync(collect()))


def check_space(store: Store, needed: int) -> None:
    """Raise StoreError if a disk has no room for some more bytes, and for small parts."""
    if isinstance(store, LocalStore):
        free, needed = shutil.disk_usage(store.root).free, needed + _SPARE
        if free < needed:
            raise StoreError(
                f"{store.root} has {free / 1e9:.1f} GB free, and the conversion needs up to "
                f"{needed / 1e9:.1f} GB. Free space, name another place with --store, or convert "
                "fewer --subject or --ses."
            )


def finish_root(store: Store, groups: list[str]) -> None:
    """Consolidate the metadata of all listed parts at the root; record the result's checksum."""
    nodes: dict[str, tuple[int, int]] = {}
    for group in groups:
        try:
            catalogue = Catalogue(store, group)
        except StoreError:
            continue  # damaged, and reported before; stays in `groups`, so it is never a stray
        if catalogue.manifest is None:
            continue
        own = catalogue.manifest["files"]
        nodes |= {f"{group}/{key}": tuple(listed) for key, listed in own.items()}
        for part in catalogue.parts.values():
            if part.path.startswith(STAGING):
                continue  # not copied to its final group yet, as on a full disk; readers find it
            files = part.files.items()
            nodes |= {f"{part.path}/{k}": v for k, v in files if k.endswith("zarr.json")}
    whole = {}
    found = fetch(store, list(nodes), [MOST_NODE] * len(nodes))
    for key, data in zip(nodes, found, strict=True):
        # Damaged: left out, so that a reader checks the node's own file.
        with suppress(StoreError, OutOfBounds):
            node = parse_node(check(store, key, data, nodes[key]))
            whole[key.removesuffix("/zarr.json")] = node
    data = consolidated(whole)
    root = {
        "schema_version": SCHEMA_VERSION,
        "groups": groups,
        "files": {"zarr.json": [len(data), codec.crc32(data)]},
    }
    put(store, MANIFEST, dump_manifest(root))
    put(store, "zarr.json", data)


def groups_in(store: Store) -> list[str]:
    """Names of the groups directly below the root that have a manifest."""
    names = _names_in(store)
    keys = [f"{name}/{MANIFEST}" for name in names]
    found = read_texts(store, keys)
    return [name for name, data in zip(names, found, strict=True) if data is not None]


def lost_manifests(store: Store) -> list[str]:
    """Names of the groups that the root lists, but whose manifest is gone."""
    data, root = read_texts(store, [MANIFEST, "zarr.json"])
    try:
        listed = parse_manifest(store, MANIFEST, data or b"")["groups"]
    except StoreError:  # the root manifest is gone or damaged; the end of the run writes it again
        listed = _consolidated_groups(root or b"")
    return sorted(set(listed) - set(groups_in(store)))


def _consolidated_groups(root: bytes) -> list[str]:
    """Names of the groups in the root's consolidated metadata, none if these cannot be parsed."""
    try:
        nodes = parse(root)["consolidated_metadata"]["metadata"]
        check_keys(nodes)
        return sorted({name.partition("/")[0] for name in nodes})
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def remove_strays(store: Store) -> None:
    """Remove objects of groups whose first conversion was killed before it wrote a manifest."""
    known = {*groups_in(store), *lost_manifests(store)}
    for name in _names_in(store):
        if PARTIAL.fullmatch(name):
            delete(store, name)
        elif name not in known and (
            name.startswith("sub-") or name in (STIMULI_GROUP, SPLITS_GROUP)
        ):
            delete_below(store, name)
    staged = {key.split("/")[1] for key in keys_below(store, STAGING)}
    for name in staged - known:
        delete_below(store, f"{STAGING}/{name}")


@contextmanager
def locked(store: Store) -> Iterator[int | None]:
    """Lock a local store against other converters; if one holds the lock, log a warning and wait.

    Yields the file descriptor of the lock, or None for a store that is not local. Such a store is
    not locked, nor is one on a file system without locks, of which a warning says so: there, only
    one converter at a time may run.

    The lock is held by the kernel (``flock``), on the folder itself: it leaves no lock file, and is
    released when this process and the workers that inherited the descriptor have closed it or died.
    """
    if not isinstance(store, LocalStore):
        yield None
        return
    import fcntl

    with changing(store, ""):
        store.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(store.root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("Another converter is at work on %s; waiting for it.", location(store))
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise StoreError(
                    f"{location(store)} cannot be locked: {cause_of(error)}, then run the same "
                    "command."
                ) from error
            log.warning(
                "%s lies on a file system without locks (%s): make sure that no other converter "
                "writes there.",
                location(store),
                error.strerror,
            )
        yield descriptor
    finally:
        os.close(descriptor)
