"""The parts that a manifest lists: their objects read, proven against it and decoded."""

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
    """One whole part of a subject, as its manifest lists it.

    Attributes
    ----------
    path : str
        Group in the store that holds it.
    files : mapping of str to (int, int)
        Every object below `path`, with its bytes and CRC-32.
    sources : mapping of str to dict
        Source files it was made from, with size and CRC-32.
    """

    path: str
    files: Files
    sources: Mapping[str, Mapping[str, int]]

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Part:
        """Read the manifest's form."""
        files = {key: (size, crc) for key, (size, crc) in entry["files"].items()}
        return cls(entry["path"], files, entry["sources"])

    def to_json(self) -> dict[str, Any]:
        """The manifest's form."""
        return {
            "path": self.path,
            "files": {key: list(value) for key, value in self.files.items()},
            "sources": dict(self.sources),
        }

    @property
    def fingerprint(self) -> dict[str, int]:
        """What tells its content from another's."""
        text = json.dumps(self.to_json()["files"], sort_keys=True)
        return {"crc32": codec.crc32(text.encode())}

    def arrays(self) -> list[str]:
        """Names of the arrays, relative to `path`."""
        nodes = [key.removesuffix("/zarr.json") for key in self.files if key.endswith("/zarr.json")]
        return sorted(n for n in nodes if not any(other.startswith(f"{n}/") for other in nodes))

    def array_files(self, name: str) -> list[str]:
        """``zarr.json`` and chunks of one array."""
        prefix = f"{name}/"
        return [
            key for key in self.files if key == f"{name}/zarr.json" or key.startswith(f"{prefix}c/")
        ]


def _node_bytes(node: dict[str, Any]) -> bytes:
    """A node of the consolidated metadata as its own ``zarr.json`` has it."""
    node = {key: value for key, value in node.items() if key != "consolidated_metadata"}
    return json.dumps(node, indent=2).encode()


class StoredParts:
    """The parts that one manifest lists, read with proof.

    Parameters
    ----------
    store : zarr.abc.store.Store
        An open store.
    group : str
        Group whose manifest counts: ``"sub-01"`` or ``"stimuli"``.

    Raises
    ------
    NotConvertedError
        If there is no store, or it does not hold the group.
    StoreError
        If the manifest is damaged, or of another schema version.
    """

    def __init__(self, store: Store, group: str) -> None:
        self.store = store
        self.group = group
        self._nodes: dict[str, Any] = {}  # consolidated metadata, not proven as yet
        key = f"{group}/{MANIFEST}"
        root, manifest = fetch(store, ["zarr.json", key])
        if root is None and manifest is not None:
            raise damaged(store, "zarr.json", "is missing")
        if manifest is not None and isinstance(store, LocalStore):
            # On disk the small files are nearer than a megabyte that must be parsed for them.
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
        """Checksum of the manifest: the same for the same content."""
        return self.manifest["crc32c"]

    def part(self, name: str) -> Part:
        """One part, or the error that says how to get it."""
        if name not in self.parts:
            raise NotConvertedError(
                f"{self.group} has no part {name!r} in the store {location(self.store)}. Parts "
                f"there: {', '.join(sorted(self.parts))}. Download its files and run 'laion-zarr "
                "convert' again."
            )
        return self.parts[name]

    def read(self, part: Part, keys: Iterable[str]) -> dict[str, bytes]:
        """Read objects of a part, proven against the manifest, in one round of requests."""
        found: dict[str, bytes] = {}
        for key in (keys := list(keys)):
            node = self._nodes.get(f"{part.path}/{key}".removesuffix("/zarr.json"))
            if node is not None and key.endswith("zarr.json"):
                data = _node_bytes(node)
                # Stale while a converter is at work: then the node's own file counts.
                if (len(data), codec.crc32(data)) == part.files[key]:
                    found[key] = data
        missing = [key for key in keys if key not in found]
        paths = [f"{part.path}/{key}" for key in missing]
        for key, path, fetched in zip(missing, paths, fetch(self.store, paths), strict=True):
            found[key] = check(self.store, path, fetched, part.files[key])
        return found

    def load(self, part_name: str, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Load small arrays of a part into memory; None for all, absent ones are left out."""
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
        """Attributes of a part's group (``""``) or of its arrays."""
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
        """Sessions whose betas are whole and in the trial table."""
        if TRIALS_PART not in self.parts:
            return []
        listed = self.parts[TRIALS_PART].sources
        return sorted(name for name in self.parts if is_session_part(name) and name in listed)
