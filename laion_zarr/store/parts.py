"""Parts of a group: objects are read, compared with the manifest of the group, and decoded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from zarr.abc.store import Store
from zarr.storage import LocalStore

from laion_zarr.errors import NotConvertedError
from laion_zarr.store import codec
from laion_zarr.store.manifest import holding, parse_manifest, parse_root, without_nodes
from laion_zarr.store.objects import check, damaged, fetch, location
from laion_zarr.store.schema import MANIFEST, TRIALS_PART, is_session_part

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
        return sorted(n for n in nodes if not any(other.startswith(f"{n}/") for other in nodes))

    def array_files(self, name: str) -> list[str]:
        """Keys of the ``zarr.json`` and the chunks of one array, relative to `path`."""
        prefix = f"{name}/"
        return [
            key for key in self.files if key == f"{name}/zarr.json" or key.startswith(f"{prefix}c/")
        ]


def _node_bytes(node: dict[str, Any]) -> bytes:
    """Serialise a node of the consolidated metadata, with the bytes of the node's ``zarr.json``."""
    node = {key: value for key, value in node.items() if key != "consolidated_metadata"}
    return json.dumps(node, indent=2).encode()


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
        root, manifest = fetch(store, ["zarr.json", key])
        if root is None and manifest is not None:
            raise damaged(store, "zarr.json", "is missing")
        if manifest is not None and isinstance(store, LocalStore):
            # On disk, reading small zarr.json files is faster than parsing a megabyte of
            # consolidated metadata.
            parse_root(store, without_nodes(root or b""))
        else:
            consolidated = parse_root(store, root).get("consolidated_metadata") or {}
            self._nodes = consolidated.get("metadata", {})
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
        paths = [f"{part.path}/{key}" for key in missing]
        for key, path, fetched in zip(missing, paths, fetch(self.store, paths), strict=True):
            found[key] = check(self.store, path, fetched, part.files[key])
        return found

    def load(self, part_name: str, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Load small arrays of a part into memory, all if `names` is None; skips absent arrays."""
        part = self.part(part_name)
        there = part.arrays()
        wanted = there if names is None else [name for name in names if name in there]
        found = self.read(part, [key for name in wanted for key in part.array_files(name)])
        return {name: self._decode(part, name, found) for name in wanted}

    def _decode(self, part: Part, name: str, found: Mapping[str, bytes]) -> np.ndarray:
        metadata = json.loads(found[f"{name}/zarr.json"])
        chunks = [key for key in part.array_files(name) if not key.endswith("zarr.json")]
        if not chunks:  # an empty array
            kind = metadata["data_type"]
            return np.empty(metadata["shape"], object if kind == "string" else kind)
        try:
            return codec.decode_array(metadata, found[chunks[0]])
        except (ValueError, RuntimeError) as error:
            key = f"{part.path}/{chunks[0]}"
            raise damaged(self.store, key, f"cannot be decoded: {error}") from error

    def attributes(self, part_name: str, nodes: Sequence[str] = ("",)) -> list[dict[str, Any]]:
        """Attributes of nodes of a part: arrays by name, and ``""`` for the group of the part."""
        part = self.part(part_name)
        keys = [f"{node}/zarr.json".lstrip("/") for node in nodes]
        found = self.read(part, keys)
        return [json.loads(found[key])["attributes"] for key in keys]

    def shape(self, part_name: str, array: str) -> tuple[int, ...]:
        """Shape of an array of a part."""
        key = f"{array}/zarr.json"
        return tuple(json.loads(self.read(self.part(part_name), [key])[key])["shape"])

    @property
    def sessions(self) -> list[str]:
        """Ids of the sessions whose betas are complete and in the trial table, sorted."""
        if TRIALS_PART not in self.parts:
            return []
        listed = self.parts[TRIALS_PART].sources
        return sorted(name for name in self.parts if is_session_part(name) and name in listed)
