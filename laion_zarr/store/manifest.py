"""Manifests, which list the contents of a store, and the root group; checked before use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from zarr.abc.store import Store
from zarr.storage import LocalStore

from laion_zarr.errors import NotConvertedError, StoreError, StoreVersionError
from laion_zarr.store import codec
from laion_zarr.store.bounds.manifests import check_manifest
from laion_zarr.store.bounds.text import MOST_TEXT, OutOfBounds, parse
from laion_zarr.store.objects import damaged, fetch, location
from laion_zarr.store.schema import DEFAULT_STORE, MANIFEST, ROOT_ATTRIBUTE, SCHEMA_VERSION


def read_texts(store: Store, keys: Sequence[str]) -> list[bytes | None]:
    """Read manifests, or the root's ``zarr.json``, whose sizes are listed nowhere."""
    return fetch(store, keys, [MOST_TEXT] * len(keys))


def subjects_in(store: Store) -> list[str]:
    """Subjects of a store, sorted, as its manifest lists them."""
    root, manifest = read_texts(store, ["zarr.json", MANIFEST])
    parse_root(store, root)
    if manifest is None:
        raise damaged(store, MANIFEST, "is missing")
    groups = parse_manifest(store, MANIFEST, manifest)["groups"]
    return sorted(group for group in groups if group.startswith("sub-"))


def holding(store: Store) -> str:
    """Clause of an error message that lists the subjects of a store; empty if it is unreadable."""
    try:
        return f", which holds {', '.join(subjects_in(store)) or 'no subject'}"
    except StoreError:
        return ""


_LAST_ENTRY = b',\n "crc32c": '
_END = b"\n}"


def dump_manifest(manifest: dict[str, Any]) -> bytes:
    """Serialise a manifest as JSON, with the checksum of the other entries as its last entry."""
    body = {key: value for key, value in manifest.items() if key != "crc32c"}
    text = json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False).encode()
    checksum = codec.crc32c(text)
    return b"".join([text.removesuffix(_END), _LAST_ENTRY, b"%d" % checksum, _END, b"\n"])


def _is_whole(data: bytes) -> bool:
    """Whether the last entry of a manifest is the checksum of its text, see `dump_manifest`."""
    body, entry, end = data.rpartition(_LAST_ENTRY)
    checksum = codec.crc32c(body + _END)
    return bool(entry) and end == b"%d%b\n" % (checksum, _END)


def parse_manifest(store: Store, key: str, data: bytes) -> dict[str, Any]:
    """Verify the checksum, schema version and group of a manifest, and return its entries."""
    # Checksum first: in damaged bytes, an unknown version may be just a flipped bit.
    if not _is_whole(data):
        raise damaged(store, key, "does not match its checksum")
    try:
        manifest = parse(data)
        check_version(store, key, manifest.get("schema_version"))
        group = manifest.get("group", "")  # the manifest of the root has no such entry
        if group != (expected := key.rpartition("/")[0]):
            raise damaged(store, key, f"is the manifest of {group!r}, expected {expected!r}")
        check_manifest(manifest, group)
    except OutOfBounds as error:
        raise damaged(store, key, str(error)) from error
    return manifest


def check_version(store: Store, key: str, version: object) -> None:
    """Raise StoreVersionError if a store has another schema version."""
    if version != SCHEMA_VERSION:
        raise StoreVersionError(
            f"{location(store, key)} has schema version {str(version)[:40]}, and this laion_zarr "
            f"reads version {SCHEMA_VERSION}. Update with 'pip install --upgrade laion-zarr'; if "
            f"no other version wrote it, 'laion-zarr verify --store {location(store)}' says what "
            "is damaged."
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
        root = parse(data)
        version = root["attributes"][ROOT_ATTRIBUTE]["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{location(store, 'zarr.json')} is not the root of a laion_zarr store. Name the "
            "folder that is (it ends in .zarr, as a rule); if this is it, it is damaged, and "
            "'laion-zarr convert' mends it."
        ) from error
    check_version(store, "zarr.json", version)
    return root


def without_nodes(root: bytes) -> bytes:
    """The root's ``zarr.json`` without its consolidated metadata, which are slow to parse."""
    head, found, _ = root.partition(b',\n  "consolidated_metadata"')
    return head + b"}" if found else root
