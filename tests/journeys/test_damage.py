"""Damage to a finished store is refused by name or answered right, found by `verify`, repaired."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from changed_stimuli import change_stimuli
from trees import tree_bytes
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from laion_zarr import Captions, Segmentations, convert, load_stimuli, load_subject, verify
from laion_zarr.conversion.cli import main
from laion_zarr.errors import StoreError
from laion_zarr.store.manifest import dump_manifest, parse_manifest
from laion_zarr.store.objects import location, open_store

pytestmark = pytest.mark.minutes

Damage = dict[str, bytes | None]  # key -> what is there instead; None: nothing
DIRECTORY = b"<a directory>"  # is compared by identity

# Surfaces are two thirds of the tiny store's files, and all alike: these few stand for them.
SURFACES = ("FFA1", "EBA", "laiongeneral")
SECONDS = 120  # for what takes a fraction of one: longer is a hang
INDEX = 135 * 16 + 4  # bytes of a shard's index, at its end


# -- the stores


@pytest.fixture(scope="module")
def mirror(bids_root, tmp_path_factory) -> Path:
    """The tiny dataset with few surfaces: a store of few files is copied and verified fast."""
    root = Path(shutil.copytree(bids_root, tmp_path_factory.mktemp("mirror") / "bids"))
    for path in root.glob("derivatives/rois/**/*hemi-*"):
        if path.is_file() and not any(name in path.name for name in SURFACES):
            path.unlink()
    return root


@pytest.fixture(scope="module")
def finished(mirror, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("finished") / "s.zarr"
    convert(mirror, path, n_workers=1, progress=False)
    return path


@pytest.fixture(scope="module")
def whole(finished) -> dict[str, bytes]:
    """The undamaged store, object by object."""
    return tree_bytes(finished)


@pytest.fixture(scope="module")
def older(mirror, tmp_path_factory) -> dict[str, bytes]:
    """Files of the store before an ``--overwrite`` that added voxels and changed the stimuli."""
    root = Path(shutil.copytree(mirror, tmp_path_factory.mktemp("older") / "bids"))
    change_stimuli(root / "stimuli")
    path = tmp_path_factory.mktemp("older") / "s.zarr"
    convert(root, path, mask="anatomical", n_workers=1, progress=False)
    return tree_bytes(path)


class Disk:
    """A store in a folder; what is read are the small files."""

    def __init__(self, root: Path, whole: Mapping[str, bytes]) -> None:
        self.like = root
        for key, data in whole.items():
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            self.put(key, data)

    def put(self, key: str, data: bytes | None) -> None:
        path = self.like / key
        if path.is_dir():
            path.rmdir()
        if data is None:
            path.unlink()
        elif data is DIRECTORY:
            path.unlink()
            path.mkdir()
        else:
            path.write_bytes(data)


class Memory:
    """A Zarr store that is no folder; metadata are read from the consolidated one."""

    def __init__(self, whole: Mapping[str, bytes]) -> None:
        self._objects: dict[str, Any] = {}
        self.like = MemoryStore(self._objects)
        for key, data in whole.items():
            self.put(key, data)

    def put(self, key: str, data: bytes | None) -> None:
        self._objects.pop(key, None)
        if data is not None and data is not DIRECTORY:  # there are no folders
            self._objects[key] = default_buffer_prototype().buffer.from_bytes(data)


class Bucket:
    """A store at a URL, as in a bucket."""

    def __init__(self, url: str, whole: Mapping[str, bytes]) -> None:
        self.like = url
        self._files = fsspec.filesystem("memory")
        for key, data in whole.items():
            self.put(key, data)

    def put(self, key: str, data: bytes | None) -> None:
        path = f"{self.like}/{key}"
        if data is None or data is DIRECTORY:
            self._files.rm_file(path)
        else:
            self._files.pipe_file(path, data)


Place = Disk | Memory | Bucket


@pytest.fixture(scope="module")
def places(whole, tmp_path_factory) -> Iterator[dict[str, Place]]:
    url = "memory://damage/s.zarr"
    yield {
        "disk": Disk(tmp_path_factory.mktemp("disk") / "s.zarr", whole),
        "memory": Memory(whole),
        "bucket": Bucket(url, whole),
    }
    fsspec.filesystem("memory").rm(url, recursive=True)


@contextmanager
def damaged(place: Place, damage: Damage, whole: Mapping[str, bytes]) -> Iterator[None]:
    """In place, and undone after: copying the store each time would take longer than reading it."""
    try:
        for key, data in damage.items():
            place.put(key, data)
        yield
    finally:
        for key in damage:
            place.put(key, whole[key])


# -- the damage

KINDS = {
    "root": r"zarr\.json",
    "root manifest": r"manifest\.json",
    "subject manifest": r"sub-\d+/manifest\.json",
    "stimuli manifest": r"stimuli/manifest\.json",
    "group": r".*(sub-\d+|stimuli|voxels|trials|ses-\d+|maps|anatomy|surfaces|geometry|metadata"
    r"|hemi-.)/zarr\.json",
    "array": r"sub-\d+/(voxels|trials|ses-\d+|anatomy|maps/ses-\d+|surfaces/hemi-.)/\w+/zarr\.json",
    "betas": r"sub-\d+/ses-\d+/betas/c/.*",
    "chunk table": r"sub-\d+/ses-\d+/betas_chunks/.*",
    "labels of a session": r"sub-\d+/ses-\d+/(?!betas)\w+/c/.*",
    "voxels": r"sub-\d+/voxels/\w+/c/.*",
    "trials": r"sub-\d+/trials/\w+/c/.*",
    "maps": r"sub-\d+/maps/ses-\d+/\w+/c/.*",
    "anatomy": r"sub-\d+/anatomy/\w+/c/.*",
    "surfaces": r"sub-\d+/surfaces/hemi-./\w+/c/.*",
    "geometry": r"sub-\d+/geometry/.+/(c/.*|zarr\.json)",
    "stimulus metadata": r"stimuli/metadata/\w+/.*",
    "pictures": r"stimuli/images/data/c/.*",
    "embeddings and masks": r"stimuli/(embeddings/\w+/embedding|segmentations/masks)/c/.*",
    "tables of the stimuli": r"stimuli/(?!metadata)(?!.*(data|embedding|masks)/c/).*/c/.*",
    "nodes of the stimuli": r"stimuli/(?!metadata).*/zarr\.json",
}


def keys_of(kind: str, whole: Mapping[str, bytes]) -> list[str]:
    return [key for key in whole if re.fullmatch(KINDS[kind], key)]


def flipped(data: bytes, position: int, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def flip(key, whole, older, rng):
    return {key: flipped(whole[key], int(rng.integers(len(whole[key]))), rng)}


def flip_near_the_end(key, whole, older, rng):
    # Where a shard has its index, and a manifest its checksum.
    size = len(whole[key])
    return {key: flipped(whole[key], size - 1 - int(rng.integers(min(INDEX, size))), rng)}


def flip_a_digit(key, whole, older, rng):
    # In JSON a number that is another number; the schema version is one.
    digits = [match.start() for match in re.finditer(rb"\d", whole[key])]
    if not digits:
        return {}
    changed = bytearray(whole[key])
    changed[digits[int(rng.integers(len(digits)))]] ^= 1 << int(rng.integers(3))
    return {key: bytes(changed)}


def cut_by_one(key, whole, older, rng):
    return {key: whole[key][:-1]}


def cut_in_half(key, whole, older, rng):
    return {key: whole[key][: len(whole[key]) // 2]}


def cut_anywhere(key, whole, older, rng):
    return {key: whole[key][: int(rng.integers(1, len(whole[key])))]}


def empty(key, whole, older, rng):
    return {key: b""}


def extend(key, whole, older, rng):
    more = rng.bytes(int(rng.integers(1, 64)))
    return {key: whole[key] + (b"\n", b"\0\0\0\0", more)[int(rng.integers(3))]}


def remove(key, whole, older, rng):
    return {key: None}


def replace_by_a_directory(key, whole, older, rng):
    return {key: DIRECTORY}


def _swap(key, others, whole, rng):
    others = [other for other in others if whole[other] != whole[key]]
    if not others:
        return {}
    other = others[int(rng.integers(len(others)))]
    return {key: whole[other], other: whole[key]}


def swap_with_namesake(key, whole, older, rng):
    """File of the same name in another session, subject, hemisphere or model."""
    return _swap(key, [o for o in whole if _namesake(o) == _namesake(key)], whole, rng)


def _namesake(key):
    return re.sub(r"sub-\d\d|ses-\d\d|hemi-.|embeddings/\w+", "", key)


def swap_with_neighbour(key, whole, older, rng):
    """Another object of the same sort, of the same size if there is one."""
    sort = r".*/c/.*" if "/c/" in key else rf"(.*/)?{Path(key).name}"
    others = [o for o in whole if re.fullmatch(sort, o) and whole[o] != whole[key]]
    same_size = [o for o in others if len(whole[o]) == len(whole[key])]
    return _swap(key, same_size or others, whole, rng)


def replace_by_older(key, whole, older, rng):
    return {key: older[key]} if older.get(key, whole[key]) != whole[key] else {}


WAYS: list[Callable[..., Damage]] = [
    flip,
    flip_near_the_end,
    flip_a_digit,
    cut_by_one,
    cut_in_half,
    cut_anywhere,
    empty,
    extend,
    remove,
    replace_by_a_directory,
    swap_with_namesake,
    swap_with_neighbour,
    replace_by_older,
]


# -- the oracle

READERS: dict[str, Callable[[Any, str], Any]] = {
    "get_sessions": lambda sub, like: sub.get_sessions(),
    "get_betas, ROI": lambda sub, like: sub.get_betas(roi="FFA1").load(),
    "get_betas, ROIs": lambda sub, like: sub.get_betas(
        roi="all", mask_source="rsquare", nc_threshold=5
    ).load(),
    "get_betas, session": lambda sub, like: sub.get_betas("ses-02", nc_threshold=5).load(),
    "get_betas, sessions": lambda sub, like: sub.get_betas(["ses-01", "ses-02"], roi="face"),
    "get_betas, mask": lambda sub, like: sub.get_betas(mask=sub.get_roi_mask("EBA")).load(),
    "get_betas, all": lambda sub, like: sub.get_betas(stimuli="shared").load(),
    "sel": lambda sub, like: sub.sel(roi="PPA", session="ses-01").load(),
    "sel, trials": lambda sub, like: sub.sel(trial=[3, 1], mask_source="anatomical").load(),
    "dataset": lambda sub, like: sub.dataset.load(),
    "dataset, a map": lambda sub, like: sub.dataset["r2"].sel(session_id="ses-02").load(),
    "engine": lambda sub, like: xr.open_dataset(
        like, engine="laion_zarr", group=sub.subject_id
    ).load(),
    "engine, Dask": lambda sub, like: xr.open_dataset(
        like, engine="laion_zarr", group=sub.subject_id, chunks={}
    )["betas"][2:5, 7::50].load(),
    "metadata": lambda sub, like: sub.metadata,
    "get_trial_info": lambda sub, like: sub.get_trial_info(["ses-01", "ses-02"]),
    "get_noise_ceiling, session": lambda sub, like: sub.get_noise_ceiling("ses-01"),
    "get_noise_ceiling, desc": lambda sub, like: sub.get_noise_ceiling(desc="Noiseceiling12rep"),
    "get_available_rois": lambda sub, like: sub.get_available_rois(),
    "get_available_categories": lambda sub, like: sub.get_available_categories(),
    "get_roi_mask": lambda sub, like: sub.get_roi_mask("all"),
    "get_roi_masks": lambda sub, like: sub.get_roi_masks(["FFA1", "body"], "rsquare"),
    "get_roi_data": lambda sub, like: sub.get_roi_data(["FFA1", "EBA", "laiongeneral"]),
    "get_roi_data, L": lambda sub, like: sub.get_roi_data("EBA", format="label", hemi="L"),
    "get_brain_mask": lambda sub, like: sub.get_brain_mask(),
    "get_brain_mask, rsquare": lambda sub, like: sub.get_brain_mask("rsquare"),
    "get_brain_mask, full": lambda sub, like: sub.get_brain_mask(res=None),
    "get_n_voxels": lambda sub, like: [sub.get_n_voxels(), sub.get_n_voxels("rsquare")],
    "get_n_voxels, full": lambda sub, like: sub.get_n_voxels(res=None),
    "get_voxel_coordinates": lambda sub, like: sub.get_voxel_coordinates(roi="FFA1"),
    "has_stimuli": lambda sub, like: sub.has_stimuli(),
    "get_stimulus_metadata": lambda sub, like: sub.get_stimulus_metadata(),
    "get_n_stimuli": lambda sub, like: [sub.get_n_stimuli(), sub.get_n_stimuli("shared")],
    "get_surface": lambda sub, like: {
        f"{name} {hemi}": sub.get_surface(name, hemi)
        for name in ("midthickness", "inflated", "sphere.reg")
        for hemi in "LR"
    },
    "from MNI305": lambda sub, like: sub._recon.from_mni305(),
}


def _seen(like: Any) -> Any:
    return load_subject("sub-01", like)


def _nouns(masks: Any, names: list[str]) -> list[list[str]]:
    return [masks.nouns(name, localized_only=False) for name in names]


STIMULUS_READERS: dict[str, Callable[[Any, Any], Any]] = {
    "metadata": lambda stim, like: stim.metadata,
    # It names the store, which is in another place each time.
    "dataset": lambda stim, like: stim.dataset.load().assign_attrs(store=""),
    "dataset, an image": lambda stim, like: stim.dataset["embedding_CLIP"].isel(image=5).load(),
    "images[...]": lambda stim, like: [stim.images[3], stim.images[stim.images.names()[20]]],
    "images.get": lambda stim, like: np.asarray(stim.images.get(7)),
    "images, each": lambda stim, like: list(stim.images),
    "images.array": lambda stim, like: stim.images.array([4, 2, 4]).load(),
    "images.array, all": lambda stim, like: stim.images.array().load(),
    "embeddings[...]": lambda stim, like: [
        stim.embeddings[model].load() for model in stim.embeddings.models
    ],
    "embeddings.get": lambda stim, like: stim.embeddings.get("DINOv2", [9, 1]),
    "segmentations.get": lambda stim, like: [
        stim.segmentations.get(row.image_name, row.noun, row.instance_id).values
        for row in stim.segmentations.metadata.iloc[3:6].itertuples()
    ],
    "segmentations.masks": lambda stim, like: stim.segmentations.masks.load(),
    "segmentations.nouns": lambda stim, like: _nouns(Segmentations(like), stim.images.names()),
    "captions.list": lambda stim, like: [stim.captions.list(n) for n in range(len(stim))],
    "captions.metadata": lambda stim, like: Captions(like).metadata,
    "of a subject, images": lambda stim, like: np.asarray(_seen(like).images.get(11)),
    "of a subject, images.array": lambda stim, like: _seen(like).images.array("ses-02").load(),
    "of a subject, embeddings.all": lambda stim, like: _seen(like).embeddings.all("CLIP").load(),
    "of a subject, captions": lambda stim, like: _seen(like).captions.get(8),
    "of a subject, nouns": lambda stim, like: _seen(like).segmentations.nouns(2),
}


def frozen(value: Any) -> Any:
    """Bit for bit, with all labels and attributes; equal only to the same."""
    match value:
        case xr.DataArray():
            coords = {name: frozen(coord.variable) for name, coord in value.coords.items()}
            return value.name, frozen(value.variable), coords
        case xr.Dataset():
            variables = {name: frozen(array) for name, array in value.variables.items()}
            return variables, sorted(value.coords), repr(value.attrs)
        case xr.Variable():
            return value.dims, repr(value.attrs), frozen(value.values)
        case pd.DataFrame():
            return frozen(value.index.to_numpy()), [
                (name, frozen(column.to_numpy())) for name, column in value.items()
            ]
        case np.ndarray():
            content = repr(value.tolist()) if value.dtype == object else value.tobytes()
            return value.dtype.str, value.shape, content
        case dict():
            return [(key, frozen(item)) for key, item in value.items()]
        case _:
            return repr(value)


def answers(like: Any, group: str) -> dict[str, Any]:
    """Answers of every reader of a group, or the exceptions that the readers raise."""

    def attempt(read: Callable[[], Any]) -> Any:
        try:
            return read()
        except Exception as error:
            return error

    readers = STIMULUS_READERS if group == "stimuli" else READERS
    opened = attempt(
        lambda: load_stimuli(like) if group == "stimuli" else load_subject(group, like)
    )
    if isinstance(opened, Exception):
        return dict.fromkeys(readers, opened)
    return {
        name: attempt(lambda read=read: frozen(read(opened, like)))
        for name, read in readers.items()
    }


@pytest.fixture(scope="module")
def right(finished) -> dict[str, dict[str, Any]]:
    found = {group: answers(finished, group) for group in ("sub-01", "sub-03", "stimuli")}
    assert not [a for its in found.values() for a in its.values() if isinstance(a, Exception)]
    return found


@contextmanager
def hanging_is_an_error() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def name_in(like: Any, text: str, damage: Damage, way: Callable[..., Damage]) -> bool:
    """Whether a message names what is damaged."""
    store = open_store(like)
    if way is replace_by_older and (key := next(iter(damage))).endswith("manifest.json"):
        # Whole in itself: what it lists is not as listed, and that can be said.
        return f"{location(store)}/{key.removesuffix('manifest.json')}" in text
    return any(location(store, key) in text for key in damage)


def groups_in(damage: Damage) -> list[str]:
    """Groups to read: damaged groups, and groups whose readers read damaged files."""
    found = set()
    for key in damage:
        top, _, rest = key.partition("/")
        found |= {top} if rest else {"sub-01", "stimuli"}
        if re.match(r"stimuli/(manifest|zarr|metadata|images/zarr)", key):
            found |= {"sub-01"}
    return sorted(found)


def judge(like, damage, way, right, tally) -> None:
    refused = False
    for group in groups_in(damage):
        with hanging_is_an_error():
            found = answers(like, group)
        for reader, answer in found.items():
            case = f"{reader} of {group} after {way.__name__} of {sorted(damage)}: {answer!r:.600}"
            if isinstance(answer, Exception):
                refused = True
                assert isinstance(answer, StoreError), case
                assert name_in(like, str(answer), damage, way), case
                assert "'laion-zarr " in str(answer), case
            else:
                assert answer == right[group][reader], case
    tally("damages: refused by name" if refused else "damages: answered right")


def judge_verify(like, damage, way, tally) -> None:
    case = f"{way.__name__} of {sorted(damage)}"
    try:
        with hanging_is_an_error():
            verify(like, progress=False)
    except StoreError as error:
        text = str(error)
    else:
        pytest.fail(f"{case} was not found")
    assert name_in(like, text, damage, way), f"{case}: {text}"
    for problem in text.split("\n- ")[1:] or [text]:
        assert "'laion-zarr convert" in problem, f"{case}: {problem}"
    tally("damages: found by verify")


# -- campaigns


def draw(kind, way, number, whole, older) -> tuple[Damage, np.random.Generator]:
    """A damage, the same for the same arguments; empty if no file can be damaged in this way."""
    rng = np.random.default_rng([zlib.crc32(f"{kind} {way.__name__}".encode()), number])
    keys = keys_of(kind, whole)
    return way(keys[int(rng.integers(len(keys)))], whole, older, rng), rng


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused_by_name_or_answered_right(
    kind, places, whole, older, right, rounds, tally
):
    for number in range(rounds(1, 15)):
        for way in WAYS:
            damage, rng = draw(kind, way, number, whole, older)
            if not damage:
                continue
            tally("damages tried")
            # A folder differs from the others: there the small files are read.
            place = places[("disk", "disk", "memory", "bucket")[int(rng.integers(4))]]
            with damaged(place, damage, whole):
                judge(place.like, damage, way, right, tally)
                judge_verify(place.like, damage, way, tally)


def commands_in(texts: set[str]) -> set[str]:
    return {command for text in texts for command in re.findall(r"'(laion-zarr [^']*)'", text)}


def complaints(root: Path, damage: Damage) -> set[str]:
    """What readers and `verify` say."""
    found = [answer for group in groups_in(damage) for answer in answers(root, group).values()]
    texts = {str(answer) for answer in found if isinstance(answer, Exception)}
    with pytest.raises(StoreError) as caught:
        verify(root, progress=False)
    return texts | {str(caught.value)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_that_the_message_names_mends_it(
    kind, mirror, whole, older, tmp_path, rounds, tally
):
    """Byte for byte what it was; and ``verify`` exits with 1 before, with 0 after."""
    first = list(KINDS).index(kind)
    ways = [WAYS[(first + number) % len(WAYS)] for number in range(rounds(1, 6))]
    always = [remove, replace_by_a_directory, flip_a_digit] if kind == "root" else []
    for number, way in enumerate(dict.fromkeys([*always, *ways])):
        damage, _ = draw(kind, way, number, whole, older)
        if not damage:
            continue
        place = Disk(tmp_path / f"{number}.zarr", whole)
        with damaged(place, damage, whole):
            texts = complaints(place.like, damage)
        checks = ["verify", "--quiet", "--store", str(place.like)]
        commands = {c for c in commands_in(texts) if c.startswith("laion-zarr convert")}
        assert commands, texts
        for command in commands:
            case = f"{command} after {way.__name__} of {sorted(damage)}"
            for key, data in damage.items():
                place.put(key, data)
            assert main(checks) == 1, case
            asked = shlex.split(command.replace("--source DATA_DIR", ""))[1:]
            options = ["--source", str(mirror), "--store", str(place.like), "--n-workers", "1"]
            assert main([*asked, *options, "--quiet"]) == 0, case
            assert tree_bytes(place.like) == whole, case
            assert main(checks) == 0, case
            tally("damages: mended by the command that the message names")


@pytest.mark.parametrize("way", [cut_in_half, remove])
@pytest.mark.parametrize("node", ["", "voxels/", "maps/ses-01/", "surfaces/", "ses-02/betas/"])
def test_damaged_metadata_of_one_subject_stop_no_conversion_of_another(
    node, way, mirror, whole, older, tmp_path
):
    place = Disk(tmp_path / "s.zarr", whole)
    damage = way(f"sub-03/{node}zarr.json", whole, older, None)
    for key, data in damage.items():
        place.put(key, data)
    options = ["--source", str(mirror), "--store", str(place.like), "--n-workers", "1", "--quiet"]
    assert main(["convert", "--overwrite", "--subject", "sub-01", *options]) == 0
    changed = {key for key, data in tree_bytes(place.like).items() if data != whole[key]}
    assert changed <= {"zarr.json", "manifest.json", *damage}
    assert main(["verify", "--quiet", "--store", str(place.like)]) == 1
    assert main(["convert", "--overwrite", "--subject", "sub-03", *options]) == 0
    assert tree_bytes(place.like) == whole


SWAPS = {
    "embeddings of two models": ("stimuli/embeddings/CLIP/", "stimuli/embeddings/DINOv2/"),
    "columns of two models": ("stimuli/embeddings/CLIP/valid/", "stimuli/embeddings/PEcore/valid/"),
    "names of pictures and captions": (
        "stimuli/images/image_name/",
        "stimuli/captions/image_name/",
    ),
    "height and width": ("stimuli/images/height/", "stimuli/images/width/"),
    "start and size": ("stimuli/images/start/", "stimuli/images/nbytes/"),
}


@pytest.mark.parametrize("case", SWAPS)
def test_parts_of_the_stimuli_that_changed_places(case, places, whole, right, tally):
    """All files of one for all files of the other."""
    one, other = SWAPS[case]
    damage: Damage = {}
    for prefix, instead in ((one, other), (other, one)):
        keys = [key for key in whole if key.startswith(prefix)]
        damage |= {key: whole[key.replace(prefix, instead)] for key in keys}
    damage = {key: data for key, data in damage.items() if data != whole[key]}
    for place in places.values():
        with damaged(place, damage, whole):
            judge(place.like, damage, swap_with_neighbour, right, tally)
            judge_verify(place.like, damage, swap_with_neighbour, tally)


@pytest.mark.parametrize(
    "part", ["images", "embeddings/PEcore", "segmentations", "captions", "metadata"]
)
def test_older_part_of_the_stimuli(part, places, whole, older, right, tally):
    """A whole part as it was before, put back by a backup or a sync."""
    damage: Damage = {
        key: older[key]
        for key in whole
        if key.startswith(f"stimuli/{part}/") and older[key] != whole[key]
    }
    assert damage or part == "metadata"
    for place in places.values() if damage else ():
        with damaged(place, damage, whole):
            judge(place.like, damage, swap_with_neighbour, right, tally)
            judge_verify(place.like, damage, swap_with_neighbour, tally)


def test_shards_of_masks_that_changed_places(tmp_path, tally):
    """Two shards of one size, all of whose chunks have one size: only checksums tell them apart."""
    folder = tmp_path / "mirror" / "stimuli"
    folder.mkdir(parents=True)
    masks = np.random.default_rng(0).integers(256, size=(2 * 4096, 2, 2), dtype=np.uint8)
    with h5py.File(folder / "task-images_desc-segmentations.h5", "w") as file:
        file["masks"] = masks
    rows = np.arange(len(masks))
    pd.DataFrame({"mask_row": rows, "noun": "cat", "instance_id": rows, "localized": 1}).assign(
        image_name="shared_12rep_LAION_cluster_1_i0.jpg"
    ).to_csv(folder / "task-images_desc-segmentations_metadata.csv", index=False)
    store = tmp_path / "s.zarr"
    convert(tmp_path / "mirror", store, n_workers=1, progress=False)
    paths = [store / f"stimuli/segmentations/masks/c/{n}/0/0" for n in (0, 1)]
    shards = [path.read_bytes() for path in paths]
    assert len(shards[0]) == len(shards[1])
    for path, shard in zip(paths, shards[::-1], strict=True):
        path.write_bytes(shard)
    seg = Segmentations(store)
    for row in (0, 4095, 4096, 8191):
        with pytest.raises(StoreError, match=re.escape(str(paths[row // 4096]))):
            seg[row]
    with pytest.raises(StoreError, match="masks"):
        seg.masks.load()
    with pytest.raises(StoreError) as caught:
        verify(store, progress=False)
    assert all(str(path) in str(caught.value) for path in paths)
    for path, shard in zip(paths, shards, strict=True):
        path.write_bytes(shard)
    np.testing.assert_array_equal(Segmentations(store)[4096].values, masks[4096])
    tally("damages: refused by name")


def test_small_chunks_of_one_size_that_changed_places(places, whole, right, tally):
    """A CRC-32C over data that end with their own CRC-32C is a constant."""
    one, other = (f"sub-03/surfaces/hemi-L/{name}_label/c/0" for name in ("EBA", "FFA1"))
    damage = {one: whole[other], other: whole[one]}
    with damaged(places["disk"], damage, whole):
        judge(places["disk"].like, damage, swap_with_neighbour, right, tally)


def test_any_flipped_byte_of_a_manifest(finished, whole, rounds, tally):
    opened = open_store(finished)
    for key in ("manifest.json", "stimuli/manifest.json", "sub-01/manifest.json"):
        data = whole[key]
        assert dump_manifest(parse_manifest(opened, key, data)) == data
        rng = np.random.default_rng(0)
        count = min(len(data), rounds(300, 10_000))
        for position in rng.choice(len(data), count, replace=False):
            with pytest.raises(StoreError, match=re.escape(location(opened, key))):
                parse_manifest(opened, key, flipped(data, int(position), rng))
        tally("bytes of manifests flipped, and refused", count)
