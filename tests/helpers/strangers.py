"""Stores as a stranger may make them: changed at will, with every checksum made right again."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
from isal import isal_zlib
from numcodecs import blosc, zstd
from numcodecs.vlen import VLenUTF8


@dataclass(frozen=True)
class Link:
    """A symbolic link to a path, which is relative to the folder `outside` if it is text."""

    target: str
    inside: bool = False


@dataclass(frozen=True)
class Pipe:
    """A named pipe, which nobody writes to."""


@dataclass(frozen=True)
class Hole:
    """A file of this size that takes no room on the disk."""

    size: int


Thing = bytes | Link | Pipe | Hole | None
EVIL: list[Any] = [
    *(None, True, -1, 0, 1, 2**31, 2**40, 2**63, 2**64, 10**30, -(2**63), 1.5, 1e308),
    *(
        float("nan"),
        float("inf"),
        "",
        ".",
        "..",
        "../../outside/secret",
        "/etc/passwd",
        "a/../../b",
    ),
    *("\x00", "\ud800", "\x1b[2J", "‮txet", "a" * 100_000, "http://127.0.0.1:9/x", "s3://b/k"),
    *("file:///etc/passwd", "a::b", "a\\b", "%2e%2e/x", "object", "numcodecs.pickle", "gzip"),
    *([], {}, [[]], {"a": {}}, [2**40], [2**20, 2**20], [1] * 1000, ["x"] * 1000),
]


def seal_manifest(manifest: Mapping[str, Any]) -> bytes:
    """Text of a manifest that ends in the checksum of its text."""
    body = {key: value for key, value in manifest.items() if key != "crc32c"}
    text = json.dumps(body, indent=1, sort_keys=True).encode()
    return seal_text(text)


def seal_text(text: bytes) -> bytes:
    crc = crc32c.crc32c(text)
    return text.removesuffix(b"\n}") + b',\n "crc32c": ' + b"%d\n}\n" % crc


def seal_chunk(payload: bytes) -> bytes:
    return payload + struct.pack("<I", crc32c.crc32c(payload))


def zeros_frame(size: int, said: int | None = None) -> bytes:
    """One zstd frame of `size` zeros, four bytes for 128 kB of them; `said` is in its header."""
    head = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", size if said is None else said)
    blocks, left = [], size
    while True:
        n = min(left, 1 << 17)
        left -= n
        blocks.append(struct.pack("<I", (n << 3) | 2 | (not left))[:3] + b"\0")
        if not left:
            return head + b"".join(blocks)


class Forge:
    """A store on disk, to which changes are applied, and undone.

    Parameters
    ----------
    root : Path
        A copy of a whole store.
    outside : Path
        Folder beside it, which nothing may touch.
    """

    def __init__(self, root: Path, outside: Path) -> None:
        self.root, self.outside = root, outside
        self.whole = {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }
        self._folders: list[str] = []

    def put(self, key: str, thing: Thing) -> None:
        path = self.root / key
        if path.is_symlink() or path.is_file() or path.is_fifo():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
            self._folders.append(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        match thing:
            case bytes():
                path.write_bytes(thing)
            case Link(target, inside):
                path.symlink_to(self.root / target if inside else self.outside / target)
            case Pipe():
                os.mkfifo(path)
            case Hole(size):
                path.touch()
                os.truncate(path, size)

    def apply(self, change: Mapping[str, Thing], *, sealed: bool = True) -> dict[str, Thing]:
        """Make a change, and list what it made as if the converter had; returns all of it."""
        made = dict(change)
        if sealed:
            made |= self._sealed(change)
        for key, thing in made.items():
            self.put(key, thing)
        return made

    def _sealed(self, change: Mapping[str, Thing]) -> dict[str, bytes]:
        manifests: dict[str, Any] = {}
        for key, data in change.items():
            group, _, name = key.partition("/")
            listing = f"{group}/manifest.json"
            if not name or name == "manifest.json" or listing in change:
                continue
            if not isinstance(data, bytes | Hole):
                continue
            manifest = manifests.setdefault(listing, json.loads(self.whole[listing]))
            entry = [data.size, 0] if isinstance(data, Hole) else [len(data), isal_zlib.crc32(data)]
            for part in [manifest, *manifest["parts"].values()]:
                inside = key.removeprefix(f"{part.get('path', group)}/")
                if inside in part["files"]:
                    part["files"][inside] = entry
        return {key: seal_manifest(its) for key, its in manifests.items()}

    def undo(self, made: Mapping[str, Thing]) -> None:
        for key in made:
            path = self.root / key
            if path.is_symlink() or path.exists():
                path.unlink() if not path.is_dir() or path.is_symlink() else shutil.rmtree(path)
        for key, data in self.whole.items():
            inside = any(key.startswith(f"{folder}/") for folder in self._folders)
            if key in made or inside:
                (self.root / key).parent.mkdir(parents=True, exist_ok=True)
                (self.root / key).write_bytes(data)
        self._folders.clear()


# -- changes, each a pure function of the whole store and random numbers


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from paths_of(inner, (*path, key))


def twisted(document: Any, rng: np.random.Generator) -> bytes:
    """JSON of a document with one to three of its values replaced, removed, renamed or nested."""
    document = json.loads(json.dumps(document))
    for _ in range(int(rng.integers(1, 4))):
        places = list(paths_of(document))
        place = places[int(rng.integers(len(places)))]
        holder = document
        for key in place[:-1]:
            holder = holder[key]
        evil = EVIL[int(rng.integers(len(EVIL)))]
        match int(rng.integers(8)):
            case 0:
                del holder[place[-1]]
            case 1 if isinstance(holder, dict):
                holder[evil if isinstance(evil, str) else "more"] = holder.pop(place[-1])
            case 2:
                for _ in range(int(rng.choice([5, 60, 900]))):
                    holder[place[-1]] = [holder[place[-1]]]
                break
            case 3 if isinstance(holder[place[-1]], int):
                holder[place[-1]] = holder[place[-1]] * int(rng.choice([-1, 2, 1000, 2**20]))
            case _:
                holder[place[-1]] = evil
    text = json.dumps(document, indent=1)
    if rng.random() < 0.1:  # the same key twice
        text = text.replace("{\n", '{\n "zarr_format": 2, "path": "../x",\n', 1)
    return text.encode()


def pick(whole: Mapping[str, bytes], rng: np.random.Generator, *ends: str) -> str:
    """Key that holds one of these texts."""
    keys = [key for key in whole if any(end in key for end in ends)]
    return keys[int(rng.integers(len(keys)))]


def twist_node(whole: Mapping[str, bytes], rng: np.random.Generator) -> dict[str, Thing]:
    key = pick(whole, rng, "/zarr.json")
    return {key: twisted(json.loads(whole[key]), rng)}


def twist_attributes(whole: Mapping[str, bytes], rng: np.random.Generator) -> dict[str, Thing]:
    telling = [k for k in whole if k.endswith("/zarr.json") and len(_attributes(whole[k])) > 1]
    key = telling[int(rng.integers(len(telling)))]
    node = json.loads(whole[key])
    node["attributes"] = json.loads(twisted(node["attributes"], rng))
    return {key: json.dumps(node).encode()}


def _attributes(data: bytes) -> dict[str, Any]:
    return json.loads(data)["attributes"]


def twist_manifest(whole: Mapping[str, bytes], rng: np.random.Generator) -> dict[str, Thing]:
    key = pick(whole, rng, "manifest.json")
    text = twisted({k: v for k, v in json.loads(whole[key]).items() if k != "crc32c"}, rng)
    return {key: seal_text(text) if text.endswith(b"\n}") else text}


def point_elsewhere(whole: Mapping[str, bytes], rng: np.random.Generator) -> dict[str, Thing]:
    """A part, or a file of it, at a path of the stranger's choice."""
    key = pick(whole, rng, "/manifest.json")
    manifest = json.loads(whole[key])
    names = list(manifest["parts"])
    part = manifest["parts"][names[int(rng.integers(len(names)))]]
    where = ["../outside/part", "/etc", "..", ".", "", "sub-01/../../outside", "http://h/x", "\x00"]
    where += [".staging/../..", "s3://b/x", "~/x", "stimuli", "sub-01", "a" * 5000]
    if rng.random() < 0.5:
        part["path"] = where[int(rng.integers(len(where)))]
    else:
        old = list(part["files"])[int(rng.integers(len(part["files"])))]
        part["files"][f"{where[int(rng.integers(len(where)))]}/{old}"] = part["files"].pop(old)
    return {key: seal_manifest(manifest)}


def flip_sealed(whole: Mapping[str, bytes], rng: np.random.Generator) -> dict[str, Thing]:
    key = pick(whole, rng, "/c/", "/zarr.json")
    data = bytearray(whole[key])
    for _ in range(int(rng.integers(1, 5))):
        data[int(rng.integers(min(len(data), 64 if rng.random() < 0.5 else 1 << 30)))] ^= 1 << int(
            rng.integers(8)
        )
    if rng.random() < 0.7 and "/c/" in key:
        data[-4:] = struct.pack("<I", crc32c.crc32c(bytes(data[:-4])))
    return {key: bytes(data)}


def cut_sealed(whole: Mapping[str, bytes], rng: np.random.Generator) -> dict[str, Thing]:
    key = pick(whole, rng, "/c/", "/zarr.json")
    data = whole[key][: int(rng.integers(len(whole[key])))]
    return {key: seal_chunk(data[:-4]) if "/c/" in key and rng.random() < 0.7 else data}


def _small(whole: Mapping[str, bytes]) -> list[str]:
    """Arrays of one chunk."""
    found = []
    for key in whole:
        if key.endswith("/zarr.json") and b'"sharding_indexed"' not in whole[key]:
            name = key.removesuffix("/zarr.json")
            if any(f"{name}/c/{zeros}" in whole for zeros in ("0", "0/0", "0/0/0")):
                found.append(name)
    return found


def _chunk_key(whole: Mapping[str, bytes], name: str) -> str:
    return next(f"{name}/c/{n}" for n in ("0", "0/0", "0/0/0") if f"{name}/c/{n}" in whole)


def decoded(whole: Mapping[str, bytes], name: str) -> np.ndarray:
    node = json.loads(whole[f"{name}/zarr.json"])
    data = zstd.decompress(whole[_chunk_key(whole, name)][:-4])
    if node["data_type"] == "string":
        return VLenUTF8().decode(data).reshape(node["shape"])
    return np.frombuffer(data, np.dtype(node["data_type"])).reshape(node["shape"]).copy()


def encoded(values: np.ndarray) -> bytes:
    plain = VLenUTF8().encode(values.ravel()) if values.dtype == object else values.tobytes()
    return seal_chunk(bytes(zstd.compress(plain, 3)))


def change_values(whole: Mapping[str, bytes], rng: np.random.Generator) -> dict[str, Thing]:
    """An array that is whole, with values of the stranger's choice."""
    names = _small(whole)
    name = names[int(rng.integers(len(names)))]
    values = decoded(whole, name)
    texts = [v for v in EVIL if isinstance(v, str) and v.isascii()] + ["</td><script>x</script>"]
    flat = values.reshape(-1)
    for place in rng.integers(len(flat), size=int(rng.choice([1, 3, len(flat)]))):
        if values.dtype == object:
            flat[place] = texts[int(rng.integers(len(texts)))]
        elif values.dtype.kind == "f":
            flat[place] = rng.choice([np.nan, np.inf, -1e30, 0, 1e30])
        elif values.dtype.kind == "b":
            flat[place] = not flat[place]
        else:
            info = np.iinfo(values.dtype)
            flat[place] = [info.min, info.max, 0, 1, info.max // 2][int(rng.integers(5))]
    return {_chunk_key(whole, name): encoded(values)}


def change_length(whole: Mapping[str, bytes], rng: np.random.Generator) -> dict[str, Thing]:
    """An array that is whole, longer or shorter than those beside it."""
    names = _small(whole)
    name = names[int(rng.integers(len(names)))]
    values = decoded(whole, name)
    axis = int(rng.integers(values.ndim))
    keep = max(1, int(values.shape[axis] * rng.choice([0.5, 1])) - 1)
    new = (
        values.take(range(keep), axis) if rng.random() < 0.5 else np.concatenate([values] * 2, axis)
    )
    node = json.loads(whole[f"{name}/zarr.json"])
    node["shape"] = list(new.shape)
    node["chunk_grid"]["configuration"]["chunk_shape"] = list(new.shape)
    return {
        f"{name}/zarr.json": json.dumps(node, indent=2).encode(),
        _chunk_key(whole, name): encoded(new),
    }


def bomb(whole: Mapping[str, bytes], rng: np.random.Generator) -> dict[str, Thing]:
    """A chunk that inflates to gigabytes, with or without a shape that allows it."""
    names = _small(whole)
    name = names[int(rng.integers(len(names)))]
    node = json.loads(whole[f"{name}/zarr.json"])
    size = int(rng.choice([1 << 27, 1 << 31, 3 << 31]))
    text = node["data_type"] == "string"
    itemsize = 4 if text else np.dtype(node["data_type"]).itemsize
    nbytes = int(np.prod(node["shape"])) * itemsize
    ways: list[Callable[[], bytes]] = [
        lambda: zeros_frame(size),
        lambda: zeros_frame(size, nbytes),
        lambda: zeros_frame(nbytes, size),
        lambda: zstd.compress(bytes(nbytes), 3) + zeros_frame(size),
        lambda: zeros_frame(nbytes) + zeros_frame(size),
        lambda: bytes(zstd.compress(struct.pack("<I", 2**32 - 1) + bytes(nbytes), 3)),
    ]
    change: dict[str, Thing] = {
        _chunk_key(whole, name): seal_chunk(bytes(ways[int(rng.integers(len(ways)))]()))
    }
    if rng.random() < 0.5:
        shape = list(node["shape"])
        shape[-1] = max(1, size // itemsize // int(np.prod(shape[:-1])))
        node["shape"] = node["chunk_grid"]["configuration"]["chunk_shape"] = shape
        change[f"{name}/zarr.json"] = json.dumps(node, indent=2).encode()
    return change


def _large(whole: Mapping[str, bytes]) -> list[str]:
    """Arrays with a chunk table, in shards."""
    return [k.removesuffix("_chunks/zarr.json") for k in whole if k.endswith("_chunks/zarr.json")]


def change_table(whole: Mapping[str, bytes], rng: np.random.Generator) -> dict[str, Thing]:
    """A chunk table that points elsewhere."""
    names = _large(whole)
    name = names[int(rng.integers(len(names)))]
    table = decoded(whole, f"{name}_chunks")
    numbers = [0, 1, 4, 2**31, 2**32, 2**40, 2**63, 2**64 - 1, len(whole)]
    for _ in range(int(rng.integers(1, 4))):
        row, column = int(rng.integers(len(table))), int(rng.integers(3))
        table[row, column] = numbers[int(rng.integers(len(numbers)))]
    return {_chunk_key(whole, f"{name}_chunks"): encoded(table)}


def change_chunk(whole: Mapping[str, bytes], rng: np.random.Generator) -> dict[str, Thing]:
    """Chunks of a shard with headers of the stranger's choice; index and table made right."""
    names = [name for name in _large(whole) if "embedding" not in name]
    name = names[int(rng.integers(len(names)))]
    key = pick(whole, rng, f"{name}/c/")
    table = decoded(whole, f"{name}_chunks")
    number = int(key.removeprefix(f"{name}/c/").split("/")[0])
    node = json.loads(whole[f"{name}/zarr.json"])
    settings = node["codecs"][0]["configuration"]
    inner, outer = settings["chunk_shape"], node["chunk_grid"]["configuration"]["chunk_shape"]
    per_shard = outer[0] // inner[0]
    rows = range(number * per_shard, min(len(table), (number + 1) * per_shard))
    nbytes = int(np.prod(inner)) * np.dtype(node["data_type"]).itemsize
    chunks = []
    for row in rows:
        offset, size, _ = table[row].tolist()
        chunk = bytearray(whole[key][offset : offset + size - 4])
        if rng.random() < 2 / len(rows):
            match int(rng.integers(5)):
                case 0:  # sizes in the header
                    place = int(rng.choice([4, 8, 12]))
                    chunk[place : place + 4] = struct.pack("<I", int(rng.choice([0, 1, 2**31 - 1])))
                case 1:
                    for _ in range(3):
                        chunk[int(rng.integers(min(len(chunk), 64)))] ^= 1 << int(rng.integers(8))
                case 2:
                    chunk = bytearray(zeros_frame(1 << 31))
                case 3:
                    chunk = bytearray(
                        blosc.compress(bytes(4 * nbytes), b"lz4", 5, blosc.BITSHUFFLE)
                    )
                case 4:
                    chunk = chunk[: int(rng.integers(len(chunk)))]
        chunks.append(seal_chunk(bytes(chunk)))
    sizes = np.array([len(chunk) for chunk in chunks], "<u8")
    index = np.full((per_shard, 2), 2**64 - 1, "<u8")
    index[: len(chunks)] = np.column_stack([np.cumsum(sizes, dtype="<u8") - sizes, sizes])
    table = table.astype("<u8")
    table[rows.start : rows.stop, :2] = index[: len(chunks)]
    table[rows.start : rows.stop, 2] = [struct.unpack("<I", chunk[-4:])[0] for chunk in chunks]
    return {
        key: b"".join(chunks) + seal_chunk(index.tobytes()),
        _chunk_key(whole, f"{name}_chunks"): encoded(table),
    }


def put_link(whole: Mapping[str, bytes], rng: np.random.Generator) -> dict[str, Thing]:
    """A link, a pipe or a hole where a file or a folder was."""
    key = pick(whole, rng, "")
    parts = key.split("/")
    folder = "/".join(parts[: int(rng.integers(1, len(parts) + 1))])
    others = [o for o in whole if len(whole[o]) == len(whole[key])]
    things: list[tuple[str, Thing]] = [
        (key, Link(f"store/{key}")),  # the same bytes, outside
        (folder, Link(f"store/{folder}")),
        (key, Link("nothing")),
        (key, Link(key, inside=True)),  # to itself
        (key, Link(others[int(rng.integers(len(others)))], inside=True)),
        (folder, Link("", inside=True)),  # to the store itself
        (folder, Link("..")),
        (key, Pipe()),
        (key, Hole(1 << 40)),
        (f"{folder}.more", Link("store")),
    ]
    where, thing = things[int(rng.integers(len(things)))]
    return {where: thing}


def claim_sizes(whole: Mapping[str, bytes], rng: np.random.Generator) -> dict[str, Thing]:
    """A manifest whose numbers are enormous, and files that are holes of that size."""
    key = pick(whole, rng, "/manifest.json")
    manifest = json.loads(whole[key])
    parts = list(manifest["parts"].values())
    part = parts[int(rng.integers(len(parts)))]
    files = list(part["files"])
    file = files[int(rng.integers(len(files)))]
    size = int(rng.choice([1 << 30, 1 << 40, 1 << 43]))
    part["files"][file][0] = size
    change: dict[str, Thing] = {key: seal_manifest(manifest)}
    if rng.random() < 0.5:
        change[f"{part['path']}/{file}"] = Hole(size)
    return change


CHANGES: list[Callable[[Mapping[str, bytes], np.random.Generator], dict[str, Thing]]] = [
    *(twist_node, twist_attributes, twist_manifest, point_elsewhere, flip_sealed, cut_sealed),
    *(change_values, change_length, bomb, change_table, change_chunk, put_link, claim_sizes),
]


@dataclass
class Case:
    """One change: its name and number, which are also what it is drawn from."""

    number: int
    change: dict[str, Thing] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return CHANGES[self.number % len(CHANGES)].__name__

    def draw(self, whole: Mapping[str, bytes]) -> dict[str, Thing]:
        rng = np.random.default_rng([20260901, self.number])
        self.change = CHANGES[self.number % len(CHANGES)](whole, rng)
        return self.change
