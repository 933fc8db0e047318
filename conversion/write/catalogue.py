"""Read and change the manifest of a group: parts are written first, then the manifest.

A new part is written directly to its final group; a reader ignores it until the manifest lists it.
A part that replaces a listed part is written to the staging group; the manifest then points there,
until the part has been copied to its final group. So at every moment the manifest lists only
complete parts, on a disk and in a bucket alike.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import LocalStore

from laion_zarr.conversion.write.metadata import group_metadata
from laion_zarr.conversion.write.writer import changing, delete, delete_below, keys_below, put
from laion_zarr.errors import StoreError
from laion_zarr.store import codec
from laion_zarr.store.disk import DiskStore
from laion_zarr.store.manifest import dump_manifest, parse_manifest, read_texts
from laion_zarr.store.objects import fetch, location
from laion_zarr.store.parts import Part
from laion_zarr.store.remote import RemoteStore
from laion_zarr.store.schema import MANIFEST, SCHEMA_VERSION, STAGING, groups_of_parts


class Catalogue:
    """The parts that one manifest lists; no other code writes this manifest.

    Parameters
    ----------
    store : zarr.abc.store.Store
        Open for writing.
    group : str
        ``"sub-01"`` or ``"stimuli"``.
    ignore_manifest : bool
        Start with no parts: the manifest is damaged and all parts are converted again.
    """

    def __init__(self, store: Store, group: str, *, ignore_manifest: bool = False) -> None:
        self.store = store
        self.group = group
        self._anew = ignore_manifest
        key = f"{group}/{MANIFEST}"
        data = None if ignore_manifest else read_texts(store, [key])[0]
        self.manifest = None if data is None else parse_manifest(store, key, data)
        listed = self.manifest["parts"] if self.manifest else {}
        self.parts = {name: Part.from_json(entry) for name, entry in listed.items()}

    def arrays_on_disk(self) -> set[str]:
        """Names of the arrays with chunks in the store, listed in the manifest or not."""
        keys = keys_below(self.store, self.group)
        return {key.split("/", 1)[1].partition("/c/")[0] for key in keys if "/c/" in key}

    def place(self, name: str) -> str:
        """Group to write a part to: its final group, or the staging group if that is in use."""
        final = f"{self.group}/{name}"
        # Without the manifest, the final group may hold a part that must not be overwritten yet.
        return f"{STAGING}/{final}" if self._anew or name in self.parts else final

    def recover(self) -> None:
        """Finish the last commit of a killed run; remove objects not listed in the manifest."""
        if any(part.path.startswith(STAGING) for part in self.parts.values()):
            self._settle()
        listed = {f"{part.path}/{key}" for part in self.parts.values() for key in part.files}
        if self.parts:
            listed |= {f"{self.group}/{key}" for key in (MANIFEST, *self._group_files())}
        for prefix in (self.group, f"{STAGING}/{self.group}"):
            for key in keys_below(self.store, prefix):
                if key not in listed:
                    delete(self.store, key)
        self.tidy()

    def tidy(self) -> None:
        """Remove empty folders, so that equal content is an equal tree; not while workers write."""
        if isinstance(self.store, LocalStore):
            prune(self.store.root / self.group)
            prune(self.store.root / STAGING)

    def commit(self, parts: Mapping[str, Part]) -> None:
        """List written parts in the manifest, all at once, and copy them to their final groups."""
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
        """Raise if an object of a part is not in the store, or not in the size that was written."""
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
        nested = {name.rpartition("/")[0] for name in self.parts if "/" in name}
        nodes |= {
            f"{name}/zarr.json": {"description": f"LAION-fMRI, {self.group}, {name}"}
            for name in sorted(nested.union(groups_of_parts(self.group)))
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
        """Copy committed parts from the staging group to their final groups."""
        staged = {n: part for n, part in self.parts.items() if part.path.startswith(STAGING)}
        if not staged:
            return
        for name, part in staged.items():
            final = f"{self.group}/{name}"
            _copy(self.store, part.path, final, list(part.files))
            for key in keys_below(self.store, final):
                if key.removeprefix(f"{final}/") not in part.files:
                    delete(self.store, key)
            self.parts[name] = Part(final, part.files, part.sources)
        self._write_manifest()
        for part in staged.values():  # only these: workers may be writing other parts there
            delete_below(self.store, part.path)


def prune(folder: Path) -> None:
    """Remove a folder and the folders in it, as far as they are empty; goes through no link."""
    if folder.is_symlink():
        return
    for path, _, _ in sorted(os.walk(folder), reverse=True):
        with suppress(OSError):  # the folder is not empty
            Path(path).rmdir()


async def _sizes(store: Store, keys: Sequence[str]) -> list[int]:
    """Size of each object in bytes, requested concurrently; -1 for an object that is not there."""

    async def size(key: str) -> int:
        try:
            return await store.getsize(key)
        except FileNotFoundError:
            return -1

    return await asyncio.gather(*map(size, keys))


def _copy(store: Store, source: str, target: str, keys: Sequence[str]) -> None:
    """Copy objects to another group: within the bucket, by hard links, or through memory."""
    if isinstance(store, RemoteStore):

        async def copy() -> None:
            pairs = ((f"{source}/{key}", f"{target}/{key}") for key in keys)
            await asyncio.gather(*(store.copy(*pair) for pair in pairs))

        with changing(store, target):
            sync(copy())
        return
    for key in keys:
        if isinstance(store, LocalStore):
            with changing(store, f"{target}/{key}"):
                _link(store, f"{source}/{key}", f"{target}/{key}")
            continue
        (data,) = fetch(store, [f"{source}/{key}"])
        assert data is not None
        put(store, f"{target}/{key}", data)


def _link(store: LocalStore, source_key: str, target_key: str) -> None:
    source, target = store.root / source_key, store.root / target_key
    if isinstance(store, DiskStore):
        source, target = store.place(source_key), store.place(target_key)
        store.opened(source_key).close()  # refuses a link that leads out of the store
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)  # a hard link: no second copy on disk
    except OSError:
        shutil.copyfile(source, partial)
    partial.replace(target)
