"""Parts of a group: objects are read, compared with the manifest of the group, and decoded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from zarr.abc.store import Store
from zarr.storage import LocalStore

from laion_zarr.errors import NotConvertedError, StoreError
from laion_zarr.store import codec
from laion_zarr.store.bounds.nodes import array_bytes, check_array, parse_node
from laion_zarr.store.bounds.payloads import MOST_LOADED, check_memory, frame_size
from laion_zarr.store.bounds.text import MOST_NODE, OutOfBounds
from laion_zarr.store.manifest import (
    holding,
    parse_manifest,
    parse_root,
    read_texts,
    without_nodes,
)
from laion_zarr.store.objects import check, damaged, fetch, location
from laion_zarr.store.schema import (
    AVERAGES_PART,
    MANIFEST,
    TRIALS_PART,
    is_session_part,
    spec_of,
)

Files = Mapping[str, tuple[int, int]]  # key -> (bytes, CRC-32)


@dataclass(frozen=True)
class Part:
    """One complete part of a group, as listed in the manifest of the group.

    Attributes
    ----------
    path : str
        Path in the store of the Zarr group that holds the part.
    files : mapping of str to (int, int)
        Every object below `path`, with its size in bytes and CRC-32.
    sources : mapping of str to dict
        Source files that the part was made from, with size and CRC-32; for a part made from other
        parts, also the `fingerprint` of these.
    """

    path: str
    files: Files
    sources: Mapping[str, Mapping[str, int]]

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Part:
        """Create a part from its entry in the JSON of a manifest."""
        files = {key: (size, crc) for key, (size, crc) in entry["files"].items()}
        return cls(entry["path"], files, entry["sources"])

    def to_json(self) -> dict[str, Any]:
        """Entry of the part in the JSON of a manifest."""
        return {
            "path": self.path,
            "files": {key: list(value) for key, value in self.files.items()},
            "sources": dict(self.sources),
        }

    @property
    def fingerprint(self) -> dict[str, int]:
        """CRC-32 of the list of files, which changes if the content of any object changes."""
        text = json.dumps(self.to_json()["files"], sort_keys=True)
        return {"crc32": codec.crc32(text.encode())}

    def arrays(self) -> list[str]:
        """Names of the arrays of the part, relative to `path`."""
        nodes = [key.removesuffix("/zarr.json") for key in self.files if key.endswith("/zarr.json")]
        groups = {node.rpartition("/")[0] for node in nodes}
        return sorted(node for node in nodes if node not in groups)

    def array_files(self, name: str) -> list[str]:
        """Keys of the ``zarr.json`` and the chunks of one array, relative to `path`."""
        return self._files_of.get(name, [])

    def chunks(self, name: str) -> dict[str, int]:
        """Size in bytes of each object of an array but its ``zarr.json``, by its key below ``c/``.

        These are its chunk, or its shards.
        """
        keys = self.array_files(name)
        return {k[len(name) + 3 :]: self.files[k][0] for k in keys if not k.endswith("zarr.json")}

    @cached_property
    def _files_of(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for key in self.files:
            name = key.rpartition("/c/")[0] or key.removesuffix("/zarr.json")
            found.setdefault(name, []).append(key)
        return found


def _node_bytes(node: Any) -> bytes:
    """Serialise a node of the consolidated metadata, with the bytes of the node's ``zarr.json``."""
    if not isinstance(node, dict):
        return b""
    node = {key: value for key, value in node.items() if key != "consolidated_metadata"}
    return json.dumps(node, indent=2).encode()


def _nodes_in(root: Mapping[str, Any]) -> dict[str, Any]:
    """Consolidated metadata in the root's ``zarr.json``; empty if it has none."""
    consolidated = root.get("consolidated_metadata")
    nodes = consolidated.get("metadata") if isinstance(consolidated, dict) else None
    return nodes if isinstance(nodes, dict) else {}


class StoredParts:
    """Reader of the parts of one group, which verifies objects against the manifest.

    Parameters
    ----------
    store : zarr.abc.store.Store
        An open store.
    group : str
        Group whose manifest is read: ``"sub-01"`` or ``"stimuli"``.

    Raises
    ------
    NotConvertedError
        If there is no store, or the store does not hold the group.
    StoreError
        If the manifest is damaged, or of another schema version.
    """

    def __init__(self, store: Store, group: str) -> None:
        self.store = store
        self.group = group
        self._nodes: dict[str, Any] = {}  # consolidated metadata, not yet verified
        key = f"{group}/{MANIFEST}"
        root, manifest = read_texts(store, ["zarr.json", key])
        if root is None and manifest is not None:
            raise damaged(store, "zarr.json", "is missing")
        if manifest is not None and isinstance(store, LocalStore):
            # On disk, reading small zarr.json files is faster than parsing a megabyte of
            # consolidated metadata.
            parse_root(store, without_nodes(root or b""))
        else:
            self._nodes = _nodes_in(parse_root(store, root))
        if manifest is None:
            if group in self._nodes:
                raise damaged(store, key, "is missing")
            raise NotConvertedError(
                f"{group} is not in the store {location(store)}{holding(store)}. 'laion-zarr "
                f"convert --store {location(store)}' adds what the source has; 'laion-zarr info' "
                "shows what is there."
            )
        self.manifest = parse_manifest(store, key, manifest)
        self.parts = {name: Part.from_json(entry) for name, entry in self.manifest["parts"].items()}

    @property
    def checksum(self) -> int:
        """CRC-32C of the manifest; equal for equal content of the group."""
        return self.manifest["crc32c"]

    def part(self, name: str) -> Part:
        """Part of this name; if absent, raises NotConvertedError that says how to add the part."""
        if name not in self.parts:
            raise NotConvertedError(
                f"{self.group} has no part {name!r} in the store {location(self.store)}. Parts "
                f"there: {', '.join(sorted(self.parts))}. Download its files and run 'laion-zarr "
                "convert' again."
            )
        return self.parts[name]

    def read(self, part: Part, keys: Iterable[str]) -> dict[str, bytes]:
        """Read objects of a part in concurrent requests and verify them against the manifest."""
        found: dict[str, bytes] = {}
        for key in (keys := list(keys)):
            node = self._nodes.get(f"{part.path}/{key}".removesuffix("/zarr.json"))
            if node is not None and key.endswith("zarr.json"):
                data = _node_bytes(node)
                # While a converter writes, this may be stale: then read the node's zarr.json.
                if (len(data), codec.crc32(data)) == part.files[key]:
                    found[key] = data
        missing = [key for key in keys if key not in found]
        paths, sizes = [f"{part.path}/{key}" for key in missing], self._sizes(part, missing)
        for key, path, fetched in zip(missing, paths, fetch(self.store, paths, sizes), strict=True):
            found[key] = check(self.store, path, fetched, part.files[key])
        return found

    def _sizes(self, part: Part, keys: Sequence[str]) -> list[int]:
        """Sizes of objects as listed, if these may be read together."""
        sizes = [part.files[key][0] for key in keys]
        for key, size in zip(keys, sizes, strict=True):
            most = MOST_NODE if key.endswith("zarr.json") else MOST_LOADED
            if size > most:
                what = f"is listed with {size:,} bytes, expected at most {most:,}"
                raise damaged(self.store, f"{part.path}/{key}", what)
        if sum(sizes) > MOST_LOADED:
            what = f"lists {len(keys):,} objects to be read together with {sum(sizes):,} bytes"
            raise damaged(self.store, f"{self.group}/{MANIFEST}", what)
        return sizes

    def load(
        self, part_name: str, names: Iterable[str] | None = None, *, needed: bool = False
    ) -> dict[str, np.ndarray]:
        """Load small arrays of a part into memory, all if `names` is None.

        Skips absent arrays; if they are `needed`, raises StoreError. Arrays that share a dim have
        one length along it.
        """
        part = self.part(part_name)
        there = dict.fromkeys(part.arrays())
        every = list(there if names is None else names)
        wanted = [name for name in every if name in there]
        if needed and len(wanted) < len(every):
            lacking = next(name for name in every if name not in wanted)
            raise self.refused(part_name, lacking, "is listed by no manifest")
        found = self.read(part, [key for name in wanted for key in part.array_files(name)])
        nodes = {name: self._array(part_name, name, found[f"{name}/zarr.json"]) for name in wanted}
        self._check_lengths(part_name, nodes)
        arrays, memory = {}, 0
        for name, node in nodes.items():
            arrays[name], taken = self._decode(part, name, node, found, memory)
            memory += taken
        return arrays

    def _decode(
        self,
        part: Part,
        name: str,
        node: Mapping[str, Any],
        found: Mapping[str, bytes],
        memory: int,
    ) -> tuple[np.ndarray, int]:
        """Array, and the memory that it takes, beside `memory` of those before it."""
        kind, shape = node["data_type"], node["shape"]
        chunks = [key for key in part.array_files(name) if not key.endswith("zarr.json")]
        if not chunks:  # an empty array
            return np.empty(shape, object if kind == "string" else kind), 0
        payload = found[chunks[0]]
        try:
            taken = array_bytes(kind, shape)
            taken += frame_size(payload[: -codec.CRC_BYTES]) if kind == "string" else 0
            check_memory(memory + taken)
            return codec.decode_array(node, payload), taken
        except (ValueError, RuntimeError) as error:
            key = f"{part.path}/{chunks[0]}"
            raise damaged(self.store, key, f"cannot be decoded: {error}") from error

    def _check_lengths(self, part_name: str, nodes: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise StoreError if arrays of a group differ in length along a dim that they share."""
        lengths: dict[tuple[str, str], tuple[int, str]] = {}
        for name, node in nodes.items():
            spec = spec_of(part_name, name)
            for dim, size in zip(spec.dims if spec else (), node["shape"], strict=False):
                known, other = lengths.setdefault((name.rpartition("/")[0], dim), (size, name))
                if known != size:
                    what = f"has {size:,} along {dim}, and {other} has {known:,}"
                    raise self.refused(part_name, name, what)

    def _node(self, part_name: str, node: str, data: bytes) -> dict[str, Any]:
        with self.bounded(part_name, node):
            return parse_node(data)

    def _array(self, part_name: str, name: str, data: bytes) -> dict[str, Any]:
        """Metadata of an array, which is what the schema has there."""
        node = self._node(part_name, name, data)
        with self.bounded(part_name, name):
            check_array(node, spec_of(part_name, name), self.part(part_name).chunks(name))
        return node

    @contextmanager
    def bounded(self, part_name: str, node: str) -> Iterator[None]:
        """Turn what is out of bounds in an array or group of a part into its StoreError."""
        try:
            yield
        except OutOfBounds as error:
            raise self.refused(part_name, node, str(error)) from error

    def refused(self, part_name: str, node: str, what: str) -> StoreError:
        """Error for an array or group of a part that says `what` no store says."""
        path = f"{self.part(part_name).path}/{node}/zarr.json"
        return damaged(self.store, path.replace("//", "/"), what)

    def attributes(
        self, part_name: str, nodes: Sequence[str] = ("",), needed: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Attributes of nodes of a part: arrays by name, and ``""`` for the group of the part.

        Raises StoreError if one that is `needed` is missing.
        """
        part = self.part(part_name)
        keys = [f"{node}/zarr.json".lstrip("/") for node in nodes]
        for node, key in zip(nodes, keys, strict=True):
            if key not in part.files:
                raise self.refused(part_name, node, "is listed by no manifest")
        found = self.read(part, keys)
        every = []
        for node, key in zip(nodes, keys, strict=True):
            every.append(self._node(part_name, node, found[key])["attributes"])
            for name in needed:
                if name not in every[-1]:
                    raise self.refused(part_name, node, f"has no attribute {name!r}")
        return every

    def shape(self, part_name: str, array: str) -> tuple[int, ...]:
        """Shape of an array of a part."""
        part, key = self.part(part_name), f"{array}/zarr.json"
        if key not in part.files:
            raise self.refused(part_name, array, "is listed by no manifest")
        return tuple(self._array(part_name, array, self.read(part, [key])[key])["shape"])

    @property
    def sessions(self) -> list[str]:
        """Ids of the sessions whose betas are complete and in the trial table, sorted."""
        if TRIALS_PART not in self.parts:
            return []
        listed = self.parts[TRIALS_PART].sources
        return sorted(name for name in self.parts if is_session_part(name) and name in listed)

    @property
    def averaged_from(self) -> dict[str, dict[str, int]]:
        """Sources of averages that would be made now: the betas of each session, as they are."""
        return {name: self.parts[name].fingerprint for name in self.sessions}

    @property
    def stale_averages(self) -> str | None:
        """Message that the averages are of other betas than are stored; None if they are not."""
        part = self.parts.get(AVERAGES_PART)
        if part is None or dict(part.sources) == self.averaged_from:
            return None
        return (
            f"The averages of {self.group} in the store {location(self.store)} were made from "
            "other betas than it holds now, so they are not read. Make them anew: 'laion-zarr "
            f"convert --parts {AVERAGES_PART} --subject {self.group.removeprefix('sub-')} --store "
            f"{location(self.store)}'."
        )
