"""The one reader of the store's bytes: fetch, prove against the manifest, decode."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import Buffer
from zarr.core.buffer.cpu import buffer_prototype as BUFFERS
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore

from laion_zarr.errors import NotConvertedError, StoreError, StoreVersionError
from laion_zarr.store import codec
from laion_zarr.store.remote import RemoteStore, is_remote, name_of
from laion_zarr.store.schema import (
    DEFAULT_STORE,
    MANIFEST,
    ROOT_ATTRIBUTE,
    SCHEMA_VERSION,
    SPLITS_GROUP,
    TRIALS_PART,
    is_session_part,
)

StoreLike = str | Path | Store
Files = Mapping[str, tuple[int, int]]  # key -> (bytes, CRC-32)


def open_store(
    store: StoreLike, storage_options: dict[str, Any] | None = None, read_only: bool = True
) -> Store:
    """Open a local path, an fsspec URL or a Zarr store; nothing is read."""
    if isinstance(store, Store):
        return store
    if isinstance(store, str) and is_remote(store):
        return RemoteStore.at(store, storage_options, read_only)
    path = Path(str(store).removeprefix("file://")).expanduser()
    return LocalStore(path.absolute(), read_only=read_only)


def location(store: Store, key: str = "") -> str:
    """Where a key lies, as a user would write it."""
    if isinstance(store, LocalStore):
        return str(store.root / key)
    if isinstance(store, FsspecStore):
        return name_of(store, key)
    return f"{store}/{key}".rstrip("/")


async def _get(store: Store, key: str, span: tuple[int, int] | None) -> Buffer | None:
    request = None if span is None else RangeByteRequest(*span)
    try:
        return await store.get(key, BUFFERS, request)
    except FileNotFoundError:  # a local root that does not exist
        return None
    except StoreError:
        raise
    except Exception as error:
        raise damaged(store, key, f"cannot be read ({error})") from error


async def _get_all(
    store: Store, requests: Iterable[tuple[str, tuple[int, int] | None]]
) -> list[Buffer | None]:
    return await asyncio.gather(*(_get(store, key, span) for key, span in requests))


def _get_local(
    store: LocalStore, key: str, span: tuple[int, int], buffer: Memory
) -> np.ndarray | None:
    """Read a range of a file: twice as fast as by way of an event loop and its threads."""
    start, end = span
    data = buffer.array((end - start,), np.dtype(np.uint8))
    n_read = 0
    try:
        with (store.root / key).open("rb", buffering=0) as file:
            file.seek(start)
            while n_read < len(data) and (n := file.readinto(data[n_read:].data)):
                n_read += n
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise damaged(store, key, f"cannot be read ({error})") from error
    return data[:n_read]


def fetch(store: Store, keys: Sequence[str]) -> list[bytes | None]:
    """Read whole objects, all at once; None for one that is not there."""
    found = sync(_get_all(store, [(key, None) for key in keys]))
    return [None if value is None else value.to_bytes() for value in found]


class Memory:
    """Memory that is used again: of new memory the kernel must first find and clear every page."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array of whatever lies there; the one before is no longer good."""
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes > len(self._bytes):
            self._bytes = np.empty(nbytes, np.uint8)
        return self._bytes[:nbytes].view(dtype).reshape(shape)


def fetch_spans(
    store: Store,
    requests: Sequence[tuple[str, tuple[int, int]]],
    buffer: Memory | None = None,
) -> list[np.ndarray | None]:
    """Read byte ranges, (start, end) within a key, all at once -> uint8, without a copy.

    Where they are read into `buffer`, they are good until it is used again.
    """
    if len(requests) == 1 and type(store) is LocalStore:
        return [_get_local(store, *requests[0], buffer or Memory())]
    found = sync(_get_all(store, requests))
    return [None if value is None else value.as_numpy_array() for value in found]


def damaged(store: Store, key: str, what: str) -> StoreError:
    """The error for an object that is not what the manifest says."""
    mends = "splits add" if key.startswith(f"{SPLITS_GROUP}/") else "convert --overwrite"
    return StoreError(
        f"{location(store, key)} {what}. It is damaged, or the store was rewritten since it was "
        f"opened: open it again; if that does not help, 'laion-zarr verify --store "
        f"{location(store)}' lists what is damaged, and 'laion-zarr {mends}' mends it."
    )


def check(store: Store, key: str, data: bytes | None, expected: tuple[int, int]) -> bytes:
    """Return `data` if it has the size and checksum that the manifest recorded."""
    size, crc = expected
    if data is None:
        raise damaged(store, key, "is missing")
    if len(data) != size:
        raise damaged(store, key, f"has {len(data):,} bytes, expected {size:,}")
    if codec.crc32(data) != crc:
        raise damaged(store, key, "does not match its checksum")
    return data


def subjects_in(store: Store) -> list[str]:
    """Subjects of a store, sorted, as its manifest lists them."""
    root, manifest = fetch(store, ["zarr.json", MANIFEST])
    parse_root(store, root)
    if manifest is None:
        raise damaged(store, MANIFEST, "is missing")
    groups = parse_manifest(store, MANIFEST, manifest)["groups"]
    return sorted(group for group in groups if group.startswith("sub-"))


def _holding(store: Store) -> str:
    """Which subjects are there, as far as that can be told."""
    try:
        return f", which holds {', '.join(subjects_in(store)) or 'no subject'}"
    except StoreError:
        return ""


_LAST_ENTRY = b',\n "crc32c": '
_END = b"\n}"


def dump_manifest(manifest: dict[str, Any]) -> bytes:
    """Serialise a manifest, with the checksum of itself as its last entry."""
    body = {key: value for key, value in manifest.items() if key != "crc32c"}
    text = json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False).encode()
    checksum = codec.crc32c(text)
    return b"".join([text.removesuffix(_END), _LAST_ENTRY, b"%d" % checksum, _END, b"\n"])


def _is_whole(data: bytes) -> bool:
    """Whether a manifest ends in the checksum of what comes before, as `dump_manifest` ends it."""
    body, entry, end = data.rpartition(_LAST_ENTRY)
    checksum = codec.crc32c(body + _END)
    return bool(entry) and end == b"%d%b\n" % (checksum, _END)


def parse_manifest(store: Store, key: str, data: bytes) -> dict[str, Any]:
    """Parse a manifest and prove that it is this one and not a byte of it differs."""
    # Proof first: a version that is not proven may be a flipped bit.
    if not _is_whole(data):
        raise damaged(store, key, "does not match its checksum")
    manifest = json.loads(data)
    check_version(store, key, manifest.get("schema_version"))
    group = manifest.get("group", "")  # the root's names none
    if group != (expected := key.rpartition("/")[0]):
        raise damaged(store, key, f"is the manifest of {group!r}, expected {expected!r}")
    return manifest


def check_version(store: Store, key: str, version: object) -> None:
    """Refuse a store of another schema version."""
    if version != SCHEMA_VERSION:
        raise StoreVersionError(
            f"{location(store, key)} has schema version {version!r}, and this laion_zarr reads "
            f"version {SCHEMA_VERSION}. Update with 'pip install --upgrade laion-zarr'; if no "
            f"other version wrote it, 'laion-zarr verify --store {location(store)}' says what is "
            "damaged."
        )


def parse_root(store: Store, data: bytes | None) -> dict[str, Any]:
    """Parse the root group's ``zarr.json`` and check the schema version."""
    if data is None:
        if isinstance(store, LocalStore) and (store.root / DEFAULT_STORE).exists():
            raise NotConvertedError(
                f"{location(store)} is no laion_zarr store, but one lies in it: name "
                f"{location(store, DEFAULT_STORE)}."
            )
        raise NotConvertedError(
            f"There is no laion_zarr store at {location(store)}. Make one with 'laion-zarr convert "
            f"--source DATA_DIR --store {location(store)}', or name another with store= or "
            "LAION_ZARR_STORE."
        )
    try:
        root = json.loads(data)
        version = root["attributes"][ROOT_ATTRIBUTE]["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{location(store, 'zarr.json')} is not the root of a laion_zarr store. Name the "
            "folder that is (it ends in .zarr, as a rule); if this is it, it is damaged, and "
            "'laion-zarr convert' mends it."
        ) from error
    check_version(store, "zarr.json", version)
    return root


def _without_nodes(root: bytes) -> bytes:
    """The root's ``zarr.json`` as far as the metadata consolidated in it."""
    head, found, _ = root.partition(b',\n  "consolidated_metadata"')
    return head + b"}" if found else root


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
            parse_root(store, _without_nodes(root or b""))
        else:
            consolidated = parse_root(store, root).get("consolidated_metadata") or {}
            self._nodes = consolidated.get("metadata", {})
        if manifest is None:
            if group in self._nodes:
                raise damaged(store, key, "is missing")
            raise NotConvertedError(
                f"{group} is not in the store {location(store)}{_holding(store)}. 'laion-zarr "
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
