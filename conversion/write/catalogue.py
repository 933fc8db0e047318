"""What a manifest lists, and the only way to change it: parts first, then the manifest.

A part lies where it belongs as soon as it is written, and nobody reads it before the manifest
lists it. A part that replaces a listed one waits in the staging group; the manifest then points
there, until the part has been copied to its place. So at every moment the manifest names whole
parts, on a disk and in a bucket alike.
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
from laion_zarr.store.manifest import dump_manifest, parse_manifest
from laion_zarr.store.objects import fetch, location
from laion_zarr.store.parts import Part
from laion_zarr.store.remote import RemoteStore
from laion_zarr.store.schema import MANIFEST, SCHEMA_VERSION, STAGING, groups_of_parts


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
        keys = keys_below(self.store, self.group)
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
            for key in keys_below(self.store, prefix):
                if key not in listed:
                    delete(self.store, key)
        self.tidy()

    def tidy(self) -> None:
        """Remove empty folders: the same content is then the same tree. Not while workers write."""
        if isinstance(self.store, LocalStore):
            prune(self.store.root / self.group)
            prune(self.store.root / STAGING)

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
            for key in keys_below(self.store, final):
                if key.removeprefix(f"{final}/") not in part.files:
                    delete(self.store, key)
            self.parts[name] = Part(final, part.files, part.sources)
        self._write_manifest()
        for part in staged.values():  # and nothing else there: workers may be writing beside it
            delete_below(self.store, part.path)


def prune(folder: Path) -> None:
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

        with changing(store, target):
            sync(copy())
        return
    for key in keys:
        if isinstance(store, LocalStore):
            with changing(store, f"{target}/{key}"):
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
