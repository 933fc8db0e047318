"""`LaionFMRIDataset`: items against the release's files; batches, workers, errors."""

from __future__ import annotations

import csv
import gc
import io
import os
import pickle
import re
import shutil
from collections import namedtuple
from functools import partial
from pathlib import Path

import dask
import h5py
import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from places import ROOT
from zarr.storage import LocalStore

from laion_zarr import _release as release
from laion_zarr import convert, load_subject
from laion_zarr.arrays import trial_rows
from laion_zarr.errors import NotConvertedError, SourceError, StimuliNotDownloadedError

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, Dataset, Subset  # noqa: E402

from laion_zarr.torch_data import LaionFMRIDataset  # noqa: E402

SUB = "sub-01"
SESSIONS = ("ses-01", "ses-02")
ALL = ("image", "embedding:CLIP", "embedding:PEcore", "caption")
BULK = ("/images/data/c/", "/embedding/c/", "/betas/c/")
SIDE = 24  # of a picture of the tiny dataset

pytestmark = [
    # What newer Pythons say of any fork beside threads, which zarr always has.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
    # On a computer of one core.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


# -- the answers, from the files of the release


def volumes(root, session):
    """(trial, x, y, z)."""
    return np.moveaxis(nib.load(root / release.betas(SUB, session)).get_fdata(dtype="f4"), -1, 0)


def voxels(root, roi=("face", "FFA1")):
    """Voxels of a region in the brain mask, bool over the grid."""
    brain = nib.load(root / release.anatomy(SUB, "brain_mask", release.FUNCTIONAL_RES))
    inside = np.asarray(brain.dataobj) != 0
    if roi is not None:
        inside &= np.asarray(nib.load(root / release.roi_volume(SUB, *roi)).dataobj) != 0
    return inside


def rows_of(path, separator=","):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=separator))


class Answers:
    """Expected values of each trial."""

    def __init__(self, root, sessions=SESSIONS):
        tables = [rows_of(root / release.trials(SUB, session), "\t") for session in sessions]
        # The rows of a table come in any order; volumes are numbered.
        tables = [sorted(table, key=lambda row: int(row["beta_index"])) for table in tables]
        self.names = [row["label"] for table in tables for row in table]
        self.sessions = [row["session"] for table in tables for row in table]
        self.repetitions = [self.names[:n].count(name) for n, name in enumerate(self.names)]
        region = voxels(root)
        self.betas = np.concatenate([volumes(root, session)[:, region] for session in sessions])
        self._root = root
        listed = rows_of(root / release.STIMULUS_METADATA)
        self._row = {row["image_name"]: n for n, row in enumerate(listed)}
        captions = [row for row in rows_of(root / release.CAPTIONS) if row["source"] == "human"]
        captions.sort(key=lambda row: -int(row["caption_idx"]))
        self._best = {row["image_name"]: row["caption"] for row in captions}
        self.captions = [self._best.get(name, "") for name in self.names]

    def picture(self, trial):
        with h5py.File(self._root / release.STIMULUS_IMAGES) as file:
            data = file["images"][self._row[self.names[trial]]].tobytes()
        rgba = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"), dtype="f8")
        opacity = rgba[..., 3:] / 255
        shown = np.rint(rgba[..., :3] * opacity + 128 * (1 - opacity)).astype("f4")
        return np.moveaxis(shown, -1, 0) / np.float32(255)

    def embedding(self, model):
        with h5py.File(self._root / release.embeddings(model)) as file:
            found = {}
            for name, row, valid in zip(
                file["image_ids"].asstr()[:], file["embedding"], file["valid"], strict=True
            ):
                found[name] = row if valid else np.full_like(row, np.nan)
        return np.array([found[name] for name in self.names]).astype("f4")


@pytest.fixture(scope="module")
def answers(bids_root):
    return Answers(bids_root)


@pytest.fixture(scope="module")
def everything(sub):
    return sub.to_torch_dataset(roi="FFA1", include=ALL)


def same(one, other):
    """Equal in every bit, NaN included, keys and kinds too."""
    assert list(one) == list(other)
    for key, value in one.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(other[key], value, rtol=0, atol=0, equal_nan=True)
        else:
            assert type(other[key]) is type(value)
            assert other[key] == value
    return True


def all_same(some, others):
    return all(same(one, other) for one, other in zip(some, others, strict=True))


# -- what an item is


def test_items_hold_what_the_files_hold(everything, answers):
    assert isinstance(everything, Dataset)
    assert isinstance(everything, LaionFMRIDataset)
    assert len(everything) == len(answers.names) == 51
    embeddings = {f"embedding:{model}": answers.embedding(model) for model in ("CLIP", "PEcore")}
    assert any(np.isnan(values).any() for values in embeddings.values())
    for trial, item in enumerate(everything):
        assert list(item) == ["betas", *ALL, "image_name", "session", "rep_index"]
        np.testing.assert_array_equal(item["betas"].numpy(), answers.betas[trial])
        np.testing.assert_array_equal(item["image"].numpy(), answers.picture(trial))
        for key, values in embeddings.items():
            np.testing.assert_array_equal(item[key].numpy(), values[trial])
        kinds = {item[key].dtype for key in ("betas", "image", *embeddings)}
        assert kinds == {torch.float32}
        assert item["caption"] == answers.captions[trial]
        assert item["image_name"] == answers.names[trial]
        assert item["session"] == answers.sessions[trial]
        assert item["rep_index"] == answers.repetitions[trial]
    assert max(answers.repetitions) > 1


def test_nan_is_kept(bids_root, sub):
    brain = voxels(bids_root, None)
    expected = np.concatenate([volumes(bids_root, session)[:, brain] for session in SESSIONS])
    assert 0 < np.isnan(expected).sum() < expected.size / 2
    data = sub.to_torch_dataset(include=())
    np.testing.assert_array_equal(np.stack([item["betas"].numpy() for item in data]), expected)


def selections(sub):
    axis = sub.get_betas()
    mask = np.arange(axis.sizes["voxel"]) % 7 == 3
    shuffled = axis["voxel"][mask][::-1]
    return {
        "session": {"session": "ses-02", "roi": ["face", "EBA"]},
        "short id": {"session": "02", "nc_threshold": 8},
        "ceiling of all": {"nc_threshold": 8, "roi": "all"},
        "other mask": {"session": "ses-01", "mask_source": "rsquare"},
        "mask": {"mask": mask},
        "labelled mask": {"mask": (shuffled > 0).assign_coords(voxel=shuffled.values)},
        "no voxel": {"mask": np.zeros_like(mask)},
    }


@pytest.mark.parametrize(
    "case",
    [
        *("session", "short id", "ceiling of all", "other mask", "mask", "labelled mask"),
        "no voxel",
    ],
)
def test_voxels_and_trials_are_those_of_get_betas(sub, case):
    options = selections(sub)[case]
    betas = sub.get_betas(**options)
    data = sub.to_torch_dataset(include=(), **options)
    assert len(data) == betas.sizes["trial"]
    found = torch.stack([item["betas"] for item in data]).numpy()
    np.testing.assert_array_equal(found, betas.values)
    assert [item["image_name"] for item in data] == betas["image_name"].values.tolist()


def test_sessions_come_in_their_order_whatever_the_list(sub, everything):
    data = sub.to_torch_dataset(["ses-02", "01"], roi="FFA1", include=ALL)
    assert all_same(data, everything)
    one = sub.to_torch_dataset(["ses-02"], roi="FFA1", include=ALL)
    assert all_same(one, Subset(everything, range(24, 51)))
    assert one[0]["rep_index"] == everything[24]["rep_index"]  # counted over all sessions


def test_include(sub):
    keys = {"betas", "image_name", "session", "rep_index"}
    assert set(sub.to_torch_dataset(roi="FFA1")[0]) == {*keys, "image"}
    assert set(sub.to_torch_dataset(roi="FFA1", include=())[0]) == keys
    once = sub.to_torch_dataset(roi="FFA1", include=["caption", "image", "caption"])
    assert set(once[0]) == {*keys, "image", "caption"}
    assert set(sub.to_torch_dataset(roi="FFA1", include="embedding:CLIP")[0]) == {
        *keys,
        "embedding:CLIP",
    }


def test_items_are_the_callers_own(sub):
    data = sub.to_torch_dataset("ses-01", roi="FFA1", include=("image", "embedding:CLIP"))
    before = data.__getitems__([0, 1])
    for item in data.__getitems__([0, 0]):
        for value in (item["betas"], item["image"], item["embedding:CLIP"]):
            value.fill_(7)
    assert all_same(data.__getitems__([0, 1]), before)
    first, second = data.__getitems__([0, 0])
    first["image"].fill_(7)
    assert same(second, before[0])


def test_indices(everything):
    assert same(everything[-1], everything[50])
    assert same(everything[torch.tensor(5)], everything[np.int64(5)])
    for index in (51, -52):
        with pytest.raises(IndexError):
            everything[index]
    for index in (slice(0, 2), 1.0, "ses-01"):
        with pytest.raises(TypeError):
            everything[index]


# -- transforms


def noisy(seen, picture):
    seen.append(picture)
    return picture[:, ::2, ::3] + torch.rand(picture.shape)[:, ::2, ::3]


def test_transform_is_applied_to_each_trial_in_order(sub, everything):
    seen = []
    data = sub.to_torch_dataset(roi="FFA1", image_transform=partial(noisy, seen))
    order = [7, 3, 7, *range(40), 3]
    torch.manual_seed(3)
    batch = data.__getitems__(order)
    assert all(torch.equal(a, everything[n]["image"]) for a, n in zip(seen, order, strict=True))
    torch.manual_seed(3)
    assert all_same(batch, [data[n] for n in order])
    assert batch[0]["image"].shape == (3, SIDE // 2, SIDE // 3)
    assert not torch.equal(batch[0]["image"], batch[2]["image"])


def test_transform_may_give_anything(sub):
    data = sub.to_torch_dataset("ses-01", roi="FFA1", image_transform=torch.Tensor.tolist)
    assert np.array(data[2]["image"]).shape == (3, SIDE, SIDE)


# -- batches, and what they read


class CountingStore(LocalStore):
    """Remembers each read of a large array."""

    def __init__(self, root):
        super().__init__(root, read_only=True)
        self.reads = []

    async def get(self, key, prototype=None, byte_range=None):
        if any(part in key for part in BULK):
            self.reads.append((key, byte_range.start, byte_range.end))
        return await super().get(key, prototype, byte_range)


def test_batches_are_their_items(everything):
    order = np.random.default_rng(0).integers(0, 51, 70).tolist()
    assert all_same(everything.__getitems__(order), [everything[n] for n in order])
    assert everything.__getitems__([]) == []


def test_a_batch_reads_each_picture_once_and_nothing_else(store):
    counting = CountingStore(store)
    data = load_subject(SUB, counting).to_torch_dataset(roi="face", include=ALL)
    reads = [read for read in counting.reads if "/betas/c/" in read[0]]
    assert len(reads) == len(set(reads)) > 0
    assert any("/embedding/c/" in read[0] for read in counting.reads)
    assert not any("/images/" in read[0] for read in counting.reads)
    counting.reads.clear()
    order = [*range(51), *range(10), 3, 3]
    names = {item["image_name"] for item in data.__getitems__(order)}
    assert len(names) < 45
    assert len(counting.reads) == len(set(counting.reads)) == len(names)
    assert all("/images/data/c/" in key for key, *_ in counting.reads)


def test_a_dataset_of_labels_and_betas_reads_no_stimuli(store):
    counting = CountingStore(store)
    data = load_subject(SUB, counting).to_torch_dataset(roi="face", include=())
    list(data)
    assert all("/betas/c/" in key for key, *_ in counting.reads)


def test_betas_are_read_whatever_the_scheduler(sub, everything):
    with dask.config.set(scheduler="processes"):
        data = sub.to_torch_dataset(roi="FFA1", include=ALL)
    assert all_same(data, everything)


# -- workers


def loaded(data, **options):
    return list(DataLoader(data, batch_size=8, **options))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_give_the_same(everything, monkeypatch, sub, method):
    alone = loaded(everything)
    assert alone[0]["betas"].shape == (8, everything[0]["betas"].numel())
    assert alone[0]["image"].shape == (8, 3, SIDE, SIDE)
    assert alone[0]["rep_index"].dtype == torch.int64
    assert isinstance(alone[0]["caption"][0], str)
    assert all_same(loaded(everything, num_workers=2, multiprocessing_context=method), alone)
    if method == "fork":  # the file goes neither with the workers nor before them
        monkeypatch.setattr(trial_rows, "MOST_IN_MEMORY", 0)
        streamed = sub.to_torch_dataset(roi="FFA1", include=ALL)
        for _ in range(2):
            assert all_same(loaded(streamed, num_workers=2), alone)


def test_shuffling_by_a_generator(everything):
    def epochs():
        loader = DataLoader(
            everything, batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(5)
        )
        return [*loader, *loader]

    first, again = epochs(), epochs()
    assert all_same(first, again)
    names = [name for batch in first[:4] for name in batch["image_name"]]
    assert names != [item["image_name"] for item in everything]
    assert sorted(names) == sorted(item["image_name"] for item in everything)


def test_pickled_and_opened_elsewhere(everything):
    again = pickle.loads(pickle.dumps(everything))
    assert isinstance(again, LaionFMRIDataset)
    assert all_same(again, everything)


def test_dropped_last_batch_and_subsets(everything):
    split = torch.utils.data.random_split(everything, [20, 31], torch.Generator().manual_seed(1))
    batches = loaded(split[1], drop_last=True)
    assert [len(batch["session"]) for batch in batches] == [8, 8, 8]


# -- streaming


@pytest.fixture
def streamed(sub, monkeypatch, tmp_path):
    """A dataset whose betas come from a scratch file in `tmp_path`."""
    monkeypatch.setattr(trial_rows, "MOST_IN_MEMORY", sub.get_betas(roi="face").nbytes - 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return partial(sub.to_torch_dataset, roi="face", include=("embedding:CLIP",))


def test_streamed_betas_are_the_same(streamed, sub, tmp_path, monkeypatch):
    data = streamed()
    (file,) = tmp_path.iterdir()
    betas = sub.get_betas(roi="face")
    assert file.read_bytes() == betas.values.tobytes()
    monkeypatch.setattr(trial_rows, "MOST_IN_MEMORY", betas.nbytes)
    inside = sub.to_torch_dataset(roi="face", include=("embedding:CLIP",))
    assert list(tmp_path.iterdir()) == [file]  # what fits memory needs no file
    order = [50, 0, 50, *range(51)]
    assert all_same(data.__getitems__(order), inside.__getitems__(order))
    del data
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_streamed_from_blocks_of_voxels(sub, monkeypatch):
    """Betas in several blocks of voxels, as those of a whole brain are."""
    betas = sub.get_betas(chunks={"trial": 10, "voxel": 23})
    rows = trial_rows.ScratchRows(betas.data)
    np.testing.assert_array_equal(rows[[40, 3, 3]], betas.values[[40, 3, 3]])
    written = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: written(file, data[:5], at))
    rows = trial_rows.ScratchRows(betas.data)
    np.testing.assert_array_equal(rows[list(range(51))], betas.values)


def test_streamed_and_sent(streamed, tmp_path):
    data = streamed()
    (file,) = tmp_path.iterdir()
    sent = pickle.dumps(data)
    again = pickle.loads(sent)
    assert list(tmp_path.iterdir()) == [file]
    expected = list(data)
    del data
    gc.collect()
    assert not file.exists()
    assert all_same(again, expected)  # open still
    later = pickle.loads(sent)
    (other,) = tmp_path.iterdir()
    assert other != file
    assert all_same(later, expected)


def test_streamed_to_a_full_disk(streamed, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 100, 100))
    with pytest.raises(OSError, match=r"(?s)GB.*" + re.escape(str(tmp_path)) + ".*TMPDIR"):
        streamed()
    assert list(tmp_path.iterdir()) == []


# -- what is wrong


@pytest.fixture(scope="module")
def lean(bids_root, tmp_path_factory):
    """A mirror to spoil: one subject, no surfaces."""
    unused = shutil.ignore_patterns("sub-03", "*hemi-*", "freesurfer", "*embeddings*", "*segm*")
    return Path(shutil.copytree(bids_root, tmp_path_factory.mktemp("lean") / "d", ignore=unused))


@pytest.fixture(scope="module")
def odd(lean, tmp_path_factory):
    """Store of `lean`: a blank label in ses-02, a wide and an undecodable picture in ses-01."""
    mirror = Path(shutil.copytree(lean, tmp_path_factory.mktemp("odd") / "d"))
    table = mirror / release.trials(SUB, "ses-02")
    (spoilt,) = (row for row in rows_of(table, "\t") if row["beta_index"] == "3")
    line = "\t".join(spoilt.values())
    assert line.endswith(spoilt["label"])
    text = table.read_text()
    assert text.count(line) == 1
    table.write_text(text.replace(line, line.removesuffix(spoilt["label"])))
    for events in mirror.rglob("*_events.tsv"):  # these still name the picture
        events.unlink()
    names = [row["image_name"] for row in rows_of(mirror / release.STIMULUS_METADATA)]
    shown = Answers(lean, SESSIONS[:1]).names
    wide, broken = shown[2], next(name for name in shown if name != shown[2])
    data = io.BytesIO()
    Image.new("RGB", (31, 17), "red").save(data, "JPEG")
    with h5py.File(mirror / release.STIMULUS_IMAGES, "r+") as file:
        file["images"][names.index(wide)] = np.frombuffer(data.getvalue(), "u1")
        file["images"][names.index(broken)] = np.frombuffer(b"not a picture", "u1")
    table = mirror / release.CAPTIONS
    rows = [row for row in rows_of(table) if row["image_name"] != wide]
    rows.append(rows[0] | {"image_name": wide, "caption_idx": 0, "source": "ai"})
    rows[-1]["caption"] = "By a model."
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    store = mirror.parent / "s.zarr"
    convert(mirror, store, n_workers=1, progress=False)
    return load_subject(SUB, store), shown, wide, broken


def test_trials_without_labels(odd):
    with pytest.raises(ValueError, match=r"1 of 51 trials have no label \(ses-02 beta_index 3\)"):
        odd[0].to_torch_dataset()
    assert len(odd[0].to_torch_dataset("ses-01", roi="FFA1")) == 24


def test_pictures_of_several_sizes(odd):
    sub, shown, wide, broken = odd
    data = sub.to_torch_dataset("ses-01", roi="FFA1")
    assert data[2]["image"].shape == (3, 17, 31)
    other = next(n for n, name in enumerate(shown) if name not in (wide, broken))
    with pytest.raises(ValueError, match="image_transform") as error:
        data.__getitems__([other, 2])
    assert f"{wide} (17 × 31)" in str(error.value)
    assert f"{shown[other]} (24 × 24)" in str(error.value)
    resized = sub.to_torch_dataset("ses-01", image_transform=corner)
    assert torch.stack([item["image"] for item in resized.__getitems__([other, 2])]).shape[2:] == (
        9,
        9,
    )


def corner(picture):
    return picture[:, :9, :9]


def test_undecodable_picture_is_named_also_by_a_worker(odd):
    sub, shown, _, broken = odd
    data = sub.to_torch_dataset("ses-01", roi="FFA1", image_transform=corner)
    with pytest.raises(SourceError, match=re.escape(broken)):
        data[shown.index(broken)]
    loader = DataLoader(data, batch_size=24, num_workers=1, multiprocessing_context="fork")
    batches = iter(loader)
    with pytest.raises(SourceError, match=re.escape(broken)):
        next(batches)
    assert list(batches) == []  # and no worker is left to wait for


def test_image_without_captions_by_people(odd):
    sub, shown, wide, _ = odd
    data = sub.to_torch_dataset("ses-01", roi="FFA1", include="caption")
    assert [item["caption"] == "" for item in data] == [name == wide for name in shown]
    assert sub.captions.ai(shown.index(wide)) == "By a model."


@pytest.fixture(scope="module")
def without_stimuli(lean, tmp_path_factory):
    mirror = Path(shutil.copytree(lean, tmp_path_factory.mktemp("bare") / "d"))
    shutil.rmtree(mirror / "stimuli")
    convert(mirror, mirror.parent / "s.zarr", n_workers=1, progress=False)
    return load_subject(SUB, mirror.parent / "s.zarr")


@pytest.mark.parametrize("include", [*ALL, "embedding:none such"])
def test_stimuli_that_are_not_there(without_stimuli, sub, include):
    with pytest.raises(StimuliNotDownloadedError, match="laion-zarr download-"):
        without_stimuli.to_torch_dataset(include=include)
    betas = without_stimuli.to_torch_dataset(roi="FFA1", include=())
    assert all_same(betas, sub.to_torch_dataset(roi="FFA1", include=()))


def test_model_that_is_not_there(sub):
    with pytest.raises(StimuliNotDownloadedError, match=r"'clip'.*CLIP, DINOv2.*download-embed"):
        sub.to_torch_dataset(include=["embedding:clip"])


@pytest.mark.parametrize("entry", ["images", "embedding", "embedding:", "CLIP", "", 3, None])
def test_unknown_include(sub, entry):
    with pytest.raises(ValueError, match=r"'image', 'caption' and 'embedding:<model>'") as error:
        sub.to_torch_dataset(include=["image", entry])
    assert repr(entry) in str(error.value)


def test_wrong_voxels_and_sessions(sub):
    n_voxels = sub.get_n_voxels()
    with pytest.raises(ValueError, match=rf"shape \({n_voxels + 1},\), expected \({n_voxels},\)"):
        sub.to_torch_dataset(mask=np.ones(n_voxels + 1, bool))
    with pytest.raises(ValueError, match="FFA9"):
        sub.to_torch_dataset(roi="FFA9")
    with pytest.raises(ValueError, match="exclude each other"):
        sub.to_torch_dataset(roi="FFA1", mask=np.ones(n_voxels, bool))
    with pytest.raises(NotConvertedError, match="ses-09"):
        sub.to_torch_dataset("ses-09")


# -- what docs/pytorch.md shows


def test_code_blocks_run(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "laion-zarr-demo").mkdir()
    (tmp_path / "laion-zarr-demo" / "laion-fmri.zarr").symlink_to(store)
    text = (ROOT / "docs" / "pytorch.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    *blocks, read_out = blocks
    assert len(blocks) == 3
    names = {}
    for block in blocks:
        exec(compile(block, "docs/pytorch.md", "exec"), names)
    assert names["batch"]["betas"].shape[1] == names["sub"].get_betas(roi="face").sizes["voxel"]
    assert names["batch"]["image"].shape[2:] == (224, 224)
    exec(compile(read_out, "docs/pytorch.md", "exec"), names)
    n_test = int((names["shared"] & names["has_embedding"]).sum())
    assert names["predicted"].shape == names["measured"].shape == (n_test, names["n_features"])
    assert -1 < names["correlation"] < 1  # of four voxels of this small dataset
