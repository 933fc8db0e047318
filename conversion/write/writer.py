"""The only writer of the store: parts first, then the manifest that makes them count.

A part lies where it belongs as soon as it is written, and nobody reads it before the manifest
lists it. A part that replaces a listed one waits in the staging group; the manifest then points
there, until the part has been copied to its place. So at every moment the manifest names whole
parts, on a disk and in a bucket alike.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore

from laion_zarr.conversion.write.metadata import array_metadata, consolidated, group_metadata
from laion_zarr.errors import NotConvertedError, StoreError, StoreVersionError
from laion_zarr.store import codec
from laion_zarr.store.manifest import dump_manifest, parse_manifest, parse_root
from laion_zarr.store.objects import BUFFERS, check, fetch, location
from laion_zarr.store.parts import Part, StoredParts
from laion_zarr.store.remote import RemoteStore, explain
from laion_zarr.store.schema import (
    MANIFEST,
    ROOT_ATTRIBUTE,
    SCHEMA_VERSION,
    SPLITS_GROUP,
    STAGING,
    STIMULI_GROUP,
    ArraySpec,
    groups_of_parts,
)

log = logging.getLogger("laion_zarr")


@contextmanager
def _changing(store: Store, key: str) -> Iterator[None]:
    """Turn what a full disk or a read-only store raises into a `StoreError` that names the key."""
    try:
        yield
    except Exception as error:
        if isinstance(store, FsspecStore):  # whatever the libraries below it may raise
            raise StoreError(f"{location(store, key)} cannot be written: {explain(error)}.") from (
                error
            )
        if not isinstance(error, OSError | ValueError):  # ValueError: a store opened read-only
            raise
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"{location(store, key)} cannot be written: {reason}. Free space or mend the "
            "permissions, then run the same command: what is whole is kept."
        ) from error


def put(store: Store, key: str, data: bytes) -> None:
    """Write one object; on disk by a temporary file and a rename."""
    with _changing(store, key):
        sync(store.set(key, BUFFERS.buffer.from_bytes(data)))


def _delete(store: Store, key: str) -> None:
    with _changing(store, key):
        sync(store.delete(key))


def _delete_below(store: Store, group: str) -> None:
    with _changing(store, group):
        sync(store.delete_dir(group))


def _keys_below(store: Store, prefix: str) -> list[str]:
    async def collect() -> list[str]:
        # Some stores list by text: "sub-1" must not find "sub-10".
        return [key async for key in store.list_prefix(prefix) if key.startswith(f"{prefix}/")]

    return sync(collect())


class PartWriter:
    """Writes one part and keeps the size and checksum of each object.

    Parameters
    ----------
    store : zarr.abc.store.Store
        Open for writing.
    path : str
        Group of the part.
    """

    def __init__(self, store: Store, path: str) -> None:
        self._store = store
        self.path = path
        self.files: dict[str, tuple[int, int]] = {}

    def put(self, key: str, data: bytes) -> None:
        """Write one object below the part's group."""
        put(self._store, f"{self.path}/{key}", data)
        self.files[key] = (len(data), codec.crc32(data))

    def group(self, attributes: Mapping[str, Any], node: str = "") -> None:
        """Write a group's metadata."""
        self.put(f"{node}/zarr.json".lstrip("/"), group_metadata(attributes))

    def metadata(
        self,
        spec: ArraySpec,
        shape: tuple[int, ...],
        attributes: Mapping[str, Any] | None = None,
        node: str = "",
    ) -> dict[str, Any]:
        """Write an array's metadata."""
        metadata = array_metadata(spec, shape, attributes or {})
        name = f"{node}/{spec.name}".lstrip("/")
        self.put(f"{name}/zarr.json", json.dumps(metadata, indent=2).encode())
        return metadata

    def array(
        self,
        spec: ArraySpec,
        values: np.ndarray,
        attributes: Mapping[str, Any] | None = None,
        node: str = "",
    ) -> None:
        """Write a small array as one chunk; an empty one has none."""
        metadata = self.metadata(spec, values.shape, attributes, node)
        if values.size:
            name = f"{node}/{spec.name}".lstrip("/")
            chunk = "/".join(["c", *("0" for _ in spec.dims)])
            self.put(f"{name}/{chunk}", codec.encode_array(metadata, values))

    def take_over(self, stored: StoredParts, part: Part, name: str) -> None:
        """Write an array as it is in a stored part."""
        for key, data in stored.read(part, part.array_files(name)).items():
            self.put(key, data)

    def part(self, sources: Mapping[str, Mapping[str, int]]) -> Part:
        """The part as the manifest lists it."""
        return Part(self.path, dict(sorted(self.files.items())), dict(sorted(sources.items())))


class Catalogue:
    """What one manifest lists, and the only way to change it.

    Parameters
    ----------
    store : zarr.abc.store.Store
        Open for writing.
    group : str
        ``"sub-01"`` or ``"stimuli"``.
    ignore_manifest : bool
        Start from an empty list: the manifest is damaged and everything is converted anew.
    """

    def __init__(self, store: Store, group: str, *, ignore_manifest: bool = False) -> None:
        self.store = store
        self.group = group
        self._anew = ignore_manifest
        key = f"{group}/{MANIFEST}"
        data = None if ignore_manifest else fetch(store, [key])[0]
        manifest = {} if data is None else parse_manifest(store, key, data)
        self.parts = {
            name: Part.from_json(entry) for name, entry in manifest.get("parts", {}).items()
        }

    def arrays_on_disk(self) -> set[str]:
        """Arrays with anything in the store, listed or not."""
        keys = _keys_below(self.store, self.group)
        return {key.split("/", 1)[1].partition("/c/")[0] for key in keys if "/c/" in key}

    def place(self, name: str) -> str:
        """Where to write a part: its place, or the staging group if that is taken."""
        final = f"{self.group}/{name}"
        # Without its manifest, nobody knows what lies there: not to be written over yet.
        return f"{STAGING}/{final}" if self._anew or name in self.parts else final

    def recover(self) -> None:
        """Finish what a killed run had committed, and remove what no manifest lists."""
        if any(part.path.startswith(STAGING) for part in self.parts.values()):
            self._settle()
        listed = {f"{part.path}/{key}" for part in self.parts.values() for key in part.files}
        if self.parts:
            listed |= {f"{self.group}/{key}" for key in (MANIFEST, *self._group_files())}
        for prefix in (self.group, f"{STAGING}/{self.group}"):
            for key in _keys_below(self.store, prefix):
                if key not in listed:
                    _delete(self.store, key)
        self.tidy()

    def tidy(self) -> None:
        """Remove empty folders: the same content is then the same tree. Not while workers write."""
        if isinstance(self.store, LocalStore):
            _prune(self.store.root / self.group)
            _prune(self.store.root / STAGING)

    def commit(self, parts: Mapping[str, Part]) -> None:
        """Make written parts count, all at once."""
        if not parts:
            return
        for part in parts.values():
            self._check_whole(part)
        self.parts |= parts
        for key, data in self._group_files().items():
            put(self.store, f"{self.group}/{key}", data)
        self._write_manifest()
        self._settle()

    def _check_whole(self, part: Part) -> None:
        """Refuse to list a part that is not there, file by file, in its full size."""
        paths = [f"{part.path}/{key}" for key in part.files]
        sizes = sync(_sizes(self.store, paths))
        for path, found, (size, _) in zip(paths, sizes, part.files.values(), strict=True):
            if found != size:
                raise StoreError(
                    f"{location(self.store, path)} should have {size:,} bytes by now, and "
                    f"{'is not there' if found < 0 else f'has {found:,}'}: something else removed "
                    "or changed it. Run the same command again."
                )

    def _group_files(self) -> dict[str, bytes]:
        nodes = {"zarr.json": {"description": f"LAION-fMRI, {self.group}"}}
        nodes |= {
            f"{name}/zarr.json": {"description": f"LAION-fMRI, {self.group}, {name}"}
            for name in groups_of_parts(self.group)
        }
        return {key: group_metadata(attributes) for key, attributes in nodes.items()}

    def _write_manifest(self) -> None:
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "group": self.group,
            "files": {
                key: [len(data), codec.crc32(data)] for key, data in self._group_files().items()
            },
            "parts": {name: part.to_json() for name, part in self.parts.items()},
        }
        put(self.store, f"{self.group}/{MANIFEST}", dump_manifest(manifest))

    def _settle(self) -> None:
        """Copy committed parts from the staging group to their places."""
        staged = {n: part for n, part in self.parts.items() if part.path.startswith(STAGING)}
        if not staged:
            return
        for name, part in staged.items():
            final = f"{self.group}/{name}"
            _copy(self.store, part.path, final, list(part.files))
            for key in _keys_below(self.store, final):
                if key.removeprefix(f"{final}/") not in part.files:
                    _delete(self.store, key)
            self.parts[name] = Part(final, part.files, part.sources)
        self._write_manifest()
        for part in staged.values():  # and nothing else there: workers may be writing beside it
            _delete_below(self.store, part.path)


def _prune(folder: Path) -> None:
    """Remove folders that hold nothing."""
    for path, _, _ in sorted(os.walk(folder), reverse=True):
        with suppress(OSError):  # it holds something
            Path(path).rmdir()


async def _sizes(store: Store, keys: Sequence[str]) -> list[int]:
    """Bytes of each object, all asked for at once; -1 for one that is not there."""

    async def size(key: str) -> int:
        try:
            return await store.getsize(key)
        except FileNotFoundError:
            return -1

    return await asyncio.gather(*map(size, keys))


def _copy(store: Store, source: str, target: str, keys: Sequence[str]) -> None:
    """Copy objects from one group to another, within the storage where it can."""
    if isinstance(store, RemoteStore):

        async def copy() -> None:
            pairs = ((f"{source}/{key}", f"{target}/{key}") for key in keys)
            await asyncio.gather(*(store.copy(*pair) for pair in pairs))

        with _changing(store, target):
            sync(copy())
        return
    for key in keys:
        if isinstance(store, LocalStore):
            with _changing(store, f"{target}/{key}"):
                _link(store.root / source / key, store.root / target / key)
            continue
        (data,) = fetch(store, [f"{source}/{key}"])
        assert data is not None
        put(store, f"{target}/{key}", data)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)  # no second copy on disk
    except OSError:
        shutil.copyfile(source, partial)
    partial.replace(target)


def prepare_root(store: Store, overwrite: bool = False) -> None:
    """Create the root group, or check that what is there is a store of this schema.

    Parameters
    ----------
    store : zarr.abc.store.Store
        Open for writing.
    overwrite : bool
        Whether a root of another version is taken for a damaged one, if its manifest says so.

    Raises
    ------
    StoreError
        If the folder holds anything else: nothing that is not ours is ever removed.
    """
    empty = group_metadata({ROOT_ATTRIBUTE: {"schema_version": SCHEMA_VERSION}})
    root, manifest = fetch(store, ["zarr.json", MANIFEST])
    ours = manifest is not None and _is_ours(store, manifest)
    whole = False
    try:
        parse_root(store, root)
        whole = True
    except NotConvertedError:
        if not ours and (others := [n for n in _names_in(store) if not n.endswith(".partial")]):
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
    if isinstance(store, LocalStore):  # an empty folder may lie where a file belongs
        for folder in filter(Path.is_dir, store.root.iterdir()):
            _prune(folder)
    if not whole:
        put(store, "zarr.json", empty)


def _is_ours(store: Store, manifest: bytes) -> bool:
    """Whether the root's manifest is whole; a damaged one is written anew at the end."""
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


def finish_root(store: Store, groups: list[str]) -> None:
    """Consolidate the metadata of all listed parts, and record the checksum of that."""
    nodes: dict[str, tuple[int, int]] = {}
    for group in groups:
        try:
            catalogue = Catalogue(store, group)
        except StoreError:
            continue  # damaged, and said already; listed, so that it is not taken for strange
        (manifest,) = fetch(store, [f"{group}/{MANIFEST}"])
        if manifest is None:
            continue
        own = json.loads(manifest)["files"]
        nodes |= {f"{group}/{key}": tuple(listed) for key, listed in own.items()}
        for part in catalogue.parts.values():
            if part.path.startswith(STAGING):
                continue  # no room for it in its place; it is read where it is until there is
            files = part.files.items()
            nodes |= {f"{part.path}/{k}": v for k, v in files if k.endswith("zarr.json")}
    whole = {}
    for key, data in zip(nodes, fetch(store, list(nodes)), strict=True):
        with suppress(StoreError):  # a damaged one is left out: its own file is read, and refused
            node = json.loads(check(store, key, data, nodes[key]))
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
    """Names of the groups that have a manifest."""
    names = _names_in(store)
    keys = [f"{name}/{MANIFEST}" for name in names]
    return [name for name, data in zip(names, fetch(store, keys), strict=True) if data is not None]


def lost_manifests(store: Store) -> list[str]:
    """Groups that the root lists, and whose manifest is gone."""
    data, root = fetch(store, [MANIFEST, "zarr.json"])
    try:
        listed = parse_manifest(store, MANIFEST, data or b"")["groups"]
    except StoreError:  # gone or damaged, and written anew at the end
        listed = _consolidated_groups(root or b"")
    return sorted(set(listed) - set(groups_in(store)))


def _consolidated_groups(root: bytes) -> list[str]:
    """Groups that were whole when the root was last written, as far as it says."""
    try:
        nodes = json.loads(root)["consolidated_metadata"]["metadata"]
        return sorted({name.partition("/")[0] for name in nodes})
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def remove_strays(store: Store) -> None:
    """Remove what a run left that was killed before it had a manifest."""
    known = {*groups_in(store), *lost_manifests(store)}
    for name in _names_in(store):
        if name.endswith(".partial"):
            _delete(store, name)
        elif name not in known and (
            name.startswith("sub-") or name in (STIMULI_GROUP, SPLITS_GROUP)
        ):
            _delete_below(store, name)
    staged = {key.split("/")[1] for key in _keys_below(store, STAGING)}
    for name in staged - known:
        _delete_below(store, f"{STAGING}/{name}")


@contextmanager
def locked(store: Store) -> Iterator[int | None]:
    """Hold a local store against other converters; waits, and says so, if one is at work.

    The lock is the kernel's, on the folder itself: it leaves no file, and dies with its holder
    and the workers that inherited it. A bucket has no such thing; there, one converter at a time.
    """
    if not isinstance(store, LocalStore):
        yield None
        return
    import fcntl

    store.root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(store.root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("Another converter is at work on %s; waiting for it.", location(store))
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
