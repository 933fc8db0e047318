"""The part of localizer maps: z and effect maps as volumes of two grids, and on both hemispheres.

One array for each resolution and hemisphere, one map per row. A damaged file fails only its own
map; a stored map whose file is now gone or damaged is kept. Maps wait for being written compressed:
which voxels of the maps' own grid are stored depends on all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from zarr.abc.store import Store

from laion_zarr._release import FINE_RES, FUNCTIONAL_RES, HEMIS, LocalizerName, sidecar
from laion_zarr.conversion.options import PROBLEMS
from laion_zarr.conversion.parts.subject import Sources, VoxelAxis, attributes_of, sources_of
from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.source.nifti import Grid, read_map
from laion_zarr.conversion.source.problems import damaged
from laion_zarr.conversion.source.surfaces import read_surface_map
from laion_zarr.conversion.write.rows import RowWriter
from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.errors import SourceError
from laion_zarr.store import codec, schema
from laion_zarr.store.chunks import ChunkedArray
from laion_zarr.store.parts import Part, StoredParts
from laion_zarr.store.schema import LOCALIZERS_PART, MAP_FIELDS

PLACES = (FUNCTIONAL_RES, FINE_RES, *HEMIS)
_PACKING = "lz4"


@dataclass(frozen=True)
class Map:
    """One localizer map, read from its file or from the store.

    Attributes
    ----------
    packed : bytes
        The values, float32, compressed: in storage order on the functional grid, all voxels in C
        order on the maps' own grid, or all vertices.
    size : int
        Number of values.
    grid : Grid or None
        Grid of a volume.
    provenance : dict
        Source file with its identity, and content of its sidecar.
    sources : dict
        Identities of the file and of its sidecar.
    stored : bool
        Whether the map comes from the store.
    """

    packed: bytes
    size: int
    grid: Grid | None
    provenance: dict[str, Any]
    sources: Sources
    stored: bool = False

    @property
    def values(self) -> np.ndarray:
        """The values, decompressed."""
        payload = np.frombuffer(self.packed, np.uint8)
        crc = int.from_bytes(self.packed[-codec.CRC_BYTES :], "little")
        return codec.decode_chunk(payload, _PACKING, crc, np.empty(self.size, "<f4"))

    @property
    def file(self) -> str:
        """Relative path of the source file."""
        return self.provenance["source"]["file"]


def describe(what: LocalizerName) -> str:
    """Name of a map in messages, such as ``floc faceVsOthers z 1pt8``."""
    run = f" run {what.run}" if what.run else ""
    return f"{what.task} {what.contrast} {what.stat}{run} {schema.maps_node(what.place)}"


@dataclass
class LocalizerMaps:
    """Localizer maps that could be read, and the errors of those that could not.

    Attributes
    ----------
    source : Source
        The mirror.
    axis : VoxelAxis
        Voxels of the subject.
    found : dict of LocalizerName to Map
        Maps that could be read.
    errors : dict of str to Exception
        Name of each map that failed, and its exception; `write` adds maps that do not fit others.
    """

    source: Source
    axis: VoxelAxis
    found: dict[LocalizerName, Map] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)

    @property
    def sources(self) -> Sources:
        """Identities of the source files of the maps that could be read."""
        return {name: its for one in self.found.values() for name, its in one.sources.items()}

    def write(self, store: Store, path: str, stored: StoredParts | None) -> Part:
        """Write the part: the maps that were read, and those that only the store has."""
        writer = PartWriter(store, path)
        writer.group({})
        maps = self._kept(stored) | self.found
        sources: Sources = {}
        for place in PLACES:
            there = sorted(what for what in maps if what.place == place)
            its = self._agreeing({what: maps[what] for what in there})
            if its:
                self._write_place(writer, place, its)
            for one in its.values():
                sources |= one.sources
        return writer.part(sources)

    def _kept(self, stored: StoredParts | None) -> dict[LocalizerName, Map]:
        """Maps of the store that were not read, unless a map of another session replaces them."""
        if stored is None or LOCALIZERS_PART not in stored.parts:
            return {}
        read = {replace(what, session="") for what in self.found}
        found: dict[LocalizerName, Map] = {}
        for place in PLACES:
            found |= _stored_maps(stored, place, self.axis, read)
        return found

    def _agreeing(self, maps: Mapping[LocalizerName, Map]) -> dict[LocalizerName, Map]:
        """Maps on the grid, or with the number of vertices, that most of them have.

        Stored maps decide if there are any: they have one grid, and are not to be lost.
        """
        deciding = [one for one in maps.values() if one.stored] or list(maps.values())
        usual = _usual(deciding)
        found = {}
        for what, one in maps.items():
            try:
                _check_like(self.source, one, usual)
                found[what] = one
            except SourceError as error:
                self.errors[describe(what)] = error
        return found

    def _write_place(
        self, writer: PartWriter, place: str, maps: Mapping[LocalizerName, Map]
    ) -> None:
        """Write the maps of one resolution or hemisphere, in the order of their names."""
        writer.group({}, schema.maps_node(place))
        (first, *_) = maps.values()
        keep: np.ndarray | slice = slice(None)
        size = first.size
        if first.grid is not None:
            voxels = self.axis.voxels
            if place == FINE_RES:
                voxels = keep = _estimated(maps.values())
            size = len(voxels)
            writer.array(schema.fine_voxels(place), voxels)
        rows = RowWriter(writer, schema.localizer_maps(place), (size,), _attributes(maps))
        for one in maps.values():
            rows.add(one.values[keep][None])
        rows.finish()


def read_localizers(
    source: Source, files: Mapping[LocalizerName, str], axis: VoxelAxis, identities: Sources
) -> LocalizerMaps:
    """Read all localizer maps of a subject whose identities are known."""
    maps = LocalizerMaps(source, axis)
    of_two = _of_two_sessions(files)
    for what, file in files.items():
        if file not in identities:
            continue  # its identity could not be read, which has been reported
        if what in of_two:
            maps.errors[describe(what)] = _two_sessions(source, what, of_two[what])
            continue
        try:
            maps.found[what] = _read(source, what, file, axis, identities)
        except PROBLEMS as error:
            maps.errors[describe(what)] = error
    return maps


def _read(
    source: Source, what: LocalizerName, file: str, axis: VoxelAxis, identities: Sources
) -> Map:
    if what.place in HEMIS:
        values, grid = read_surface_map(source, file), None
    else:
        volume, grid = read_map(source, file, axis.grid if what.place == FUNCTIONAL_RES else None)
        values = volume.ravel()  # C order of the grid, whatever the order in the file
        if what.place == FUNCTIONAL_RES:
            values = values[axis.voxels]
    provenance = attributes_of(source, file, identities)
    sources = sources_of(source, file, identities)
    source.check_unchanged(sources)
    packed = codec.encode_chunk(values, _PACKING)
    return Map(packed, len(values), grid, provenance, sources)


def _of_two_sessions(files: Mapping[LocalizerName, str]) -> dict[LocalizerName, list[str]]:
    """Maps that several sessions have, with their files: a user names no session."""
    same: dict[LocalizerName, list[LocalizerName]] = {}
    for what in files:
        same.setdefault(replace(what, session=""), []).append(what)
    return {
        what: [files[each] for each in names]
        for names in same.values()
        if len(names) > 1
        for what in names
    }


def _two_sessions(source: Source, what: LocalizerName, files: Sequence[str]) -> SourceError:
    named = " and ".join(source.full(file) for file in files)
    return SourceError(
        f"{named}: expected one session with the map {describe(what)}, found {len(files)}. Delete "
        "the files that are not of the release and run the same command: neither is converted."
    )


def _stored_maps(
    stored: StoredParts, place: str, axis: VoxelAxis, read: set[LocalizerName]
) -> dict[LocalizerName, Map]:
    """Maps of the store that are not in `read`, whose names have no session.

    None of the functional grid if its voxels are in another order now.
    """
    spec = schema.localizer_maps(place)
    if spec.name not in stored.part(LOCALIZERS_PART).arrays():
        return {}
    (attributes,) = stored.attributes(LOCALIZERS_PART, [spec.name])
    n_maps, size = stored.shape(LOCALIZERS_PART, spec.name)
    voxels = _stored_voxels(stored, place)
    in_order = voxels is not None and np.array_equal(voxels, axis.voxels)
    if place == FUNCTIONAL_RES and not in_order:
        return {}
    labels = attributes[schema.MAP_LABELS]
    rows_of = ({name: labels[name][row] for name in MAP_FIELDS} for row in range(n_maps))
    names = [LocalizerName(**its, place=place) for its in rows_of]
    rows = np.array([n for n, what in enumerate(names) if replace(what, session="") not in read])
    found = {}
    chunks = ChunkedArray(stored, LOCALIZERS_PART, spec).gather(rows.astype(int), (size,))
    for row, (chunk, _, _) in zip(rows, chunks, strict=True):
        its = attributes[schema.MAP_SOURCES][row]
        found[names[row]] = _stored_map(stored, place, chunk[0], voxels, its, attributes)
    return found


def _stored_map(
    stored: StoredParts,
    place: str,
    values: np.ndarray,
    voxels: np.ndarray | None,
    provenance: dict[str, Any],
    attributes: Mapping[str, Any],
) -> Map:
    """A map of the store as it would be read from its file."""
    file, grid = provenance["source"]["file"], None
    if voxels is not None:
        grid = Grid(file, tuple(attributes["shape"]), np.array(attributes["affine"]))
        if place == FINE_RES:
            whole = np.full(int(np.prod(grid.shape)), np.nan, np.float32)
            whole[voxels] = values
            values = whole
    known = stored.part(LOCALIZERS_PART).sources
    sources = {name: dict(known[name]) for name in (file, sidecar(file)) if name in known}
    packed = codec.encode_chunk(values, _PACKING)
    return Map(packed, len(values), grid, provenance, sources, stored=True)


def _stored_voxels(stored: StoredParts, place: str) -> np.ndarray | None:
    if place in HEMIS:
        return None
    name = schema.fine_voxels(place).name
    return stored.load(LOCALIZERS_PART, [name])[name]


def _usual(maps: Sequence[Map]) -> Map | None:
    """A map with the grid or the number of vertices that most of the maps have."""

    def form(one: Map) -> tuple[Any, ...]:
        return (one.size,) if one.grid is None else (one.grid.shape, one.grid.affine.tobytes())

    counted = Counter(map(form, maps)).most_common(1)
    return next((one for one in maps if form(one) == counted[0][0]), None)


def _check_like(source: Source, one: Map, usual: Map | None) -> None:
    """Raise `SourceError` if a map has another grid, or number of vertices, than the usual ones."""
    assert usual is not None
    if one.grid is not None and usual.grid is not None:
        one.grid.check_same(usual.grid)
    elif one.size != usual.size:
        expected = f"{usual.size:,} vertices as in {usual.file}"
        raise damaged(source.full(one.file), f"{one.size:,} vertices", expected)


def _estimated(maps: Iterable[Map]) -> np.ndarray:
    """Voxels of the grid that any of the maps estimates, ascending."""
    anywhere: np.ndarray | None = None
    for one in maps:
        there = ~np.isnan(one.values)
        anywhere = there if anywhere is None else anywhere | there
    assert anywhere is not None
    anywhere[0] |= not anywhere.any()  # a chunk holds at least one value
    return np.flatnonzero(anywhere).astype(np.int32)


def _attributes(maps: Mapping[LocalizerName, Map]) -> dict[str, Any]:
    """Attributes of an array of maps: labels and source of each row, grid of volumes."""
    (first, *_) = maps.values()
    grid = first.grid
    return {
        schema.MAP_LABELS: {name: [getattr(what, name) for what in maps] for name in MAP_FIELDS},
        schema.MAP_SOURCES: [one.provenance for one in maps.values()],
    } | ({} if grid is None else {"shape": list(grid.shape), "affine": grid.affine.tolist()})
