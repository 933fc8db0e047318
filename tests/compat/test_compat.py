"""Scripts written for the numpy package run on the store, and give what its files hold.

`laion_fmri_scripts` is the code of users of that package; only its name is replaced.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from laion_zarr import compat, convert, errors
from laion_zarr.compat import _errors, templates
from laion_zarr.conversion import add_splits

SCRIPTS = Path(__file__).parent / "laion_fmri_scripts"
GLM = "derivatives/glmsingle-tedana"


class Source:
    """A subject's files, read by plain nibabel and pandas."""

    def __init__(self, root: Path, subject: str) -> None:
        self.root, self.subject = root, subject
        self.glm = root / GLM / subject
        self.anatomical = self.volume(
            f"derivatives/anatomical/{subject}/ses-PrismaAnat/anat/"
            f"{subject}_ses-PrismaAnat_space-T1w_res-1pt8_desc-brain_mask.nii.gz"
        )
        self.mask = np.asarray(self.anatomical.dataobj).ravel() != 0
        r2 = f"{GLM}/{subject}/{subject}_task-images_space-T1w_stat-rsquare_desc-R2mean_statmap"
        self.rsquare = np.asarray(self.volume(f"{r2}.nii.gz").dataobj).ravel() != 0
        self.sessions = sorted(path.name for path in self.glm.glob("ses-*"))

    def volume(self, path: str) -> Any:
        return nib.load(self.root / path)

    def _session(self, session: str, ending: str) -> Path:
        (found,) = self.glm.glob(f"{session}/func/*{ending}")
        return found

    def betas(self, session: str, mask: np.ndarray | None = None) -> np.ndarray:
        image: Any = nib.load(self._session(session, "SingletrialBetas_statmap.nii.gz"))
        values = np.asarray(image.dataobj, dtype=np.float32)
        flat = values.reshape(-1, values.shape[-1]).T
        # C order, as the numpy package gives it: means then add up in the same order, bit for bit.
        return np.ascontiguousarray(flat[:, self.mask if mask is None else mask])

    def stacked(self, mask: np.ndarray) -> np.ndarray:
        return np.concatenate([self.betas(session, mask) for session in self.sessions])

    def trials(self, session: str) -> pd.DataFrame:
        table = pd.read_csv(self._session(session, "_trials.tsv"), sep="\t")
        return table.sort_values("beta_index", ignore_index=True)

    def all_trials(self) -> pd.DataFrame:
        return pd.concat(map(self.trials, self.sessions), ignore_index=True)

    def ceiling(self, session: str) -> np.ndarray:
        path = self._session(session, "_space-T1w_desc-Noiseceiling_statmap.nii.gz")
        image: Any = nib.load(path)
        return np.asarray(image.dataobj, dtype=np.float32).ravel()

    def ceiling_across(self, desc: str) -> np.ndarray:
        stem = f"{GLM}/{self.subject}/{self.subject}_task-images_space-T1w_desc-{desc}_statmap"
        return np.asarray(self.volume(f"{stem}.nii.gz").dataobj, dtype=np.float32).ravel()

    def roi(self, *names: str) -> np.ndarray:
        """Over the whole grid; names of ROIs or of categories."""
        folder = self.root / "derivatives/rois" / self.subject
        inside = np.zeros_like(self.mask)
        for name in names:
            files = [*folder.glob(f"{name}/*res-1pt8*"), *folder.glob(f"*/*1pt8_label-{name}_m*")]
            files = [path for path in files if path.name.endswith(".nii.gz")]
            assert files, name
            for path in files:
                image: Any = nib.load(path)
                inside |= np.asarray(image.dataobj).ravel() != 0
        return inside


def run(name: str) -> dict[str, Any]:
    """A user's script, with nothing but the package renamed: what it defines."""
    text = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": name}
    renamed = re.sub(r"\blaion_fmri\b", "laion_zarr.compat", text)
    exec(compile(renamed, f"{name}.py", "exec"), names)
    return names


@pytest.fixture(scope="module")
def data_dir(bids_root, own_splits, tmp_path_factory):
    """A data directory with its store; one more trial has NaN where there are ROIs."""
    root = Path(shutil.copytree(bids_root, tmp_path_factory.mktemp("old") / "data"))
    source = Source(root, "sub-01")
    path = source._session("ses-02", "SingletrialBetas_statmap.nii.gz")
    image: Any = nib.load(path)
    values = np.asarray(image.dataobj).copy()
    shape = values.shape[:3]
    values[source.roi("laionventral").reshape(shape), 3] = np.nan
    nib.save(nib.Nifti1Image(values, image.affine, image.header), path)
    convert(root, root / "laion-fmri.zarr", progress=False)
    add_splits(own_splits, root / "laion-fmri.zarr")
    return root


@pytest.fixture
def environment(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(data_dir))
    monkeypatch.setenv("OUT_DIR", str(tmp_path))


@pytest.fixture
def old(data_dir) -> compat.Subject:
    return compat.load_subject("sub-01", data_dir / "laion-fmri.zarr")


# -- scripts


def test_sessions(data_dir, environment):
    source, found = Source(data_dir, "sub-01"), run("sessions")
    assert found["trial_file"] == f"{data_dir}/derivatives"
    areas = source.mask & source.roi("FFA1", "OFA", "place", "laionventral")
    zs, shared = [], source.all_trials()["label"].str.startswith("shared_").to_numpy()
    for session in source.sessions:
        betas = source.betas(session, areas)
        zs.append((betas - betas.mean(axis=0)) / betas.std(axis=0))
    z = np.concatenate(zs)
    assert np.isnan(z).any(axis=0).sum() == (source.mask & source.roi("laionventral")).sum()
    assert not np.isnan(z).all()
    np.testing.assert_array_equal(found["z_train"], z[~shared])
    np.testing.assert_array_equal(found["z_test"], z[shared])

    stacked = source.stacked(areas)
    np.testing.assert_array_equal(found["stacked"], stacked)
    assert found["stacked"].dtype == np.float32
    assert list(found["by_session"]) == source.sessions
    assert np.isnan(found["grand_mean"]).any()
    np.testing.assert_array_equal(found["grand_mean"], stacked.mean(axis=0))
    assert not np.isnan(found["nan_mean"]).any()
    labels = source.all_trials()["label"]
    assert found["image_means"].index.tolist() == sorted(set(labels))
    for label, row in found["image_means"].iterrows():
        own = stacked[labels == label].astype(np.float64)
        np.testing.assert_allclose(row.to_numpy(), np.nanmean(own, axis=0), rtol=1e-5)
    repeated = [label for label in sorted(set(labels)) if (labels == label).sum() > 1]
    for row, label in zip(found["odd_minus_even"], repeated, strict=True):
        own = stacked[labels == label]
        np.testing.assert_array_equal(row, own[1::2].mean(0) - own[::2].mean(0))


def test_sessions_reliable_voxels(data_dir, environment):
    source, found = Source(data_dir, "sub-01"), run("sessions")
    ceiling = source.ceiling("ses-01")
    np.testing.assert_array_equal(found["ceiling"], ceiling[source.mask])
    keep = source.mask & (ceiling >= 30)
    assert 0 < keep.sum() < source.mask.sum()
    np.testing.assert_array_equal(found["reliable"], source.betas("ses-01", keep))
    custom = source.mask & source.roi("laiongeneral") & (ceiling > 30)
    np.testing.assert_array_equal(found["masked"], source.betas("ses-01", custom))
    faces = source.mask & source.roi("face")
    assert list(found["ceilings"]) == ["Noiseceiling4rep", "NoiseceilingAllrep"]
    for desc, values in found["ceilings"].items():
        np.testing.assert_array_equal(values, source.ceiling_across(desc)[faces])
    unique = source.trials("ses-02")["label"].str.startswith("unique_").to_numpy()
    np.testing.assert_array_equal(
        found["functional"], source.betas("ses-02", source.rsquare)[unique]
    )
    ventral = source.betas("ses-02", source.mask & source.roi("laionventral"))
    np.testing.assert_array_equal(found["untouched"], ventral)
    assert not np.isnan(found["centred"]).any()


def test_assembly(data_dir, environment):
    source, found = Source(data_dir, "sub-01"), run("assembly")
    regions = {"V3": ["V3B"], "V4": ["hV4"], "word": ["VWFA1", "mfswords"]}
    small = source.roi(*[roi for rois in regions.values() for roi in rois])
    keep = source.mask & (small | source.roi("laionventral"))
    label = np.where(source.roi("laionventral"), "IT", "").astype(object)
    for name, rois in regions.items():
        label[source.roi(*rois)] = name
    everything, trials = found["everything"], source.all_trials()
    assert everything["region"].values.tolist() == label[keep].tolist()
    assert {"IT", "V3"} <= set(label[keep])
    expected = []
    for session in source.sessions:
        betas = source.betas(session, keep).astype(np.float64)
        expected.append((betas - np.nanmean(betas, axis=0)) / np.nanstd(betas, axis=0))
    expected = np.nan_to_num(np.concatenate(expected))
    np.testing.assert_allclose(everything.values, expected, rtol=1e-4, atol=1e-5)
    xyz = nib.affines.apply_affine(
        source.anatomical.affine, np.argwhere(keep.reshape(source.anatomical.shape))
    )
    np.testing.assert_allclose(np.stack([everything[n] for n in "xyz"], 1), xyz, atol=1e-9)
    ceiling = source.ceiling_across("Noiseceiling12rep")[keep]
    np.testing.assert_array_equal(everything["ceiling"], ceiling)

    ood = trials["label"].str.contains("_OOD_").to_numpy()
    assert 0 < ood.sum() < len(ood)
    assembly = found["assembly"]
    np.testing.assert_array_equal(assembly.values, everything.values[~ood])
    assert assembly.indexes["stimulus"].names == ["stimulus", "repetition"]
    firsts = ~trials["label"].duplicated().to_numpy() & ~ood
    assert found["first"]["stimulus"].values.tolist() == trials["label"][firsts].tolist()
    np.testing.assert_array_equal(found["first"].values, everything.values[firsts])

    faces, bodies = source.roi("face")[source.mask], source.roi("body")[source.mask]
    np.testing.assert_array_equal(found["both"], faces & bodies)
    np.testing.assert_array_equal(found["masks"]["face"], faces ^ bodies)


def test_volumes(data_dir, environment, tmp_path):
    source, found = Source(data_dir, "sub-03"), run("volumes")
    shape, affine = source.anatomical.shape, source.anatomical.affine
    betas = source.betas("ses-01")
    expected = np.zeros(shape, dtype=np.float32)
    expected[source.mask.reshape(shape)] = betas.mean(axis=0)
    np.testing.assert_array_equal(found["volume"], expected)
    for name in ("mean.nii.gz", "by_file.nii"):
        image: Any = nib.load(tmp_path / name)
        np.testing.assert_array_equal(np.asarray(image.dataobj), expected)
        np.testing.assert_allclose(image.affine, affine)
    keep = source.mask & source.roi("face")
    image = nib.load(tmp_path / "faces.nii.gz")
    faces = np.zeros(shape, dtype=np.float32)
    faces[keep.reshape(shape)] = source.betas("ses-01", keep).mean(axis=0)
    np.testing.assert_array_equal(np.asarray(image.dataobj), faces)
    image = nib.load(tmp_path / "rsquare.nii")
    ceiling = np.where(source.rsquare, source.ceiling("ses-02"), 0).reshape(shape)
    np.testing.assert_array_equal(np.asarray(image.dataobj), ceiling)

    xyz = nib.affines.apply_affine(affine, np.argwhere(source.mask.reshape(shape)))
    np.testing.assert_allclose(found["xyz"], xyz, atol=1e-9)
    for name in ("left_xyz", "same_xyz"):
        np.testing.assert_allclose(found[name], xyz[xyz[:, 0] < 0], atol=1e-9)
    assert found["xyz"].dtype == np.float64


def test_volumes_masks_and_files(data_dir, environment):
    source, found = Source(data_dir, "sub-03"), run("volumes")
    np.testing.assert_array_equal(found["mask"], source.mask)
    assert found["n_voxels"] == (source.mask.sum(), source.rsquare.sum())
    folder = f"derivatives/anatomical/{source.subject}/ses-PrismaAnat/anat"
    name = f"{source.subject}_ses-PrismaAnat_space-T1w_desc-brain_mask.nii.gz"
    full = np.asarray(source.volume(f"{folder}/{name}").dataobj).ravel() != 0
    np.testing.assert_array_equal(found["full"], full)
    folder = data_dir / "derivatives/rois/sub-03/face"
    for hemi in "LR":
        image: Any = nib.load(
            folder / f"sub-03_hemi-{hemi}_space-fsnative_label-FFA2_mask.func.gii"
        )
        np.testing.assert_array_equal(
            found["surface"][f"hemi-{hemi}"]["func.gii"], image.darrays[0].data != 0
        )
        label = found["everything"]["gii"][f"hemi-{hemi}"]["label"]
        file = folder / f"sub-03_hemi-{hemi}_space-fsnative_label-FFA2_mask.label"
        np.testing.assert_array_equal(label, nib.freesurfer.read_label(str(file)))
    np.testing.assert_array_equal(found["everything"]["volume"], source.roi("FFA2")[source.mask])
    assert found["sizes"]["laiongeneral"] == (source.mask & source.roi("laiongeneral")).sum()
    assert found["missing"] == []
    np.testing.assert_array_equal(found["betas"], source.betas("ses-01"))
    r2 = source._session("ses-01", "_stat-rsquare_desc-R2_statmap.nii.gz")
    image = nib.load(r2)
    np.testing.assert_array_equal(found["r2"], np.asarray(image.dataobj).ravel()[source.mask])
    pd.testing.assert_frame_equal(
        found["trials"].sort_values("beta_index", ignore_index=True), source.trials("ses-01")
    )


def shown(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def test_pictures(data_dir, environment):
    found = run("pictures")
    folder = data_dir / "stimuli"
    table = pd.read_csv(folder / "task-images_metadata.csv")
    with h5py.File(folder / "task-images_stimuli.h5") as file:
        files = dict(zip(table["image_name"], map(bytes, file["images"][:]), strict=True))
    assert found["names"] == table["image_name"].tolist()
    name = found["names"][3]
    assert found["jpeg"] == found["same"] == files[name]
    assert found["row"] == 3
    np.testing.assert_array_equal(found["picture"], shown(files[name]))
    np.testing.assert_array_equal(np.array(found["displayed"]), shown(files[name]))
    assert found["n_bytes"] == {image: len(data) for image, data in files.items()}
    assert found["shared"]

    by_name = embeddings(folder, "CLIP")
    assert sorted(found["ids"]) == sorted(by_name)
    expected = np.stack([by_name[image] for image in found["ids"]])
    np.testing.assert_array_equal(found["clip"], expected)
    assert found["clip"].dtype == np.float16
    by_name = embeddings(folder, "DINOv2")
    np.testing.assert_array_equal(
        found["some"], np.stack([by_name[image] for image in found["shared"][::-1]])
    )
    np.testing.assert_array_equal(found["one"], by_name[found["shared"][0]])
    assert found["loaded"] == ["CLIP", "PEcore"]
    assert found["has"] == (True, False, True, False)
    assert found["n_images"] == len(by_name)
    assert found["all_models"]

    with h5py.File(folder / "task-images_desc-segmentations.h5") as file:
        masks = file["masks"][:]
    rows = pd.read_csv(folder / "task-images_desc-segmentations_metadata.csv", na_filter=False)
    best = rows[(rows["instance_id"] == 0) & (rows["localized"].astype(int) == 1)]
    areas = {
        (image, noun): int(masks[row].sum())
        for image, noun, row in zip(best["image_name"], best["noun"], best["mask_row"], strict=True)
    }
    assert found["mask_sizes"] == areas
    np.testing.assert_array_equal(found["first_mask"], masks[0])
    assert found["n_masks"] == len(rows)
    texts = captions(folder)
    assert found["n_captions"] == len(texts)
    for image in found["names"]:
        own = texts[texts["image_name"] == image].sort_values("caption_idx")
        human = own.loc[own["source"] == "human", "caption"].tolist()
        assert found["captions"][image] == human[:2]
        assert found["ai"][image] == next(iter(own.loc[own["source"] == "ai", "caption"]), None)


def embeddings(folder: Path, model: str) -> dict[str, np.ndarray]:
    """By image; NaN where not valid."""
    with h5py.File(folder / f"task-images_desc-{model}_embeddings.h5") as file:
        names = file["image_ids"].asstr()[:]
        values = np.where(file["valid"][:][:, None], file["embedding"][:], np.float16(np.nan))
    return dict(zip(names, values, strict=True))


def captions(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "task-images_desc-captions.csv", na_filter=False)


def test_pictures_by_trial(data_dir, environment):
    source, found = Source(data_dir, "sub-01"), run("pictures")
    folder, trials = data_dir / "stimuli", source.all_trials()
    table = pd.read_csv(folder / "task-images_metadata.csv")
    with h5py.File(folder / "task-images_stimuli.h5") as file:
        files = dict(zip(table["image_name"], map(bytes, file["images"][:]), strict=True))
    assert found["table"]["label"].tolist() == trials["label"].tolist()
    assert len(found["betas"]) == len(trials)
    inside = (trials["session"] == "ses-02").to_numpy()
    np.testing.assert_array_equal(found["in_session"], inside)
    labels = trials["label"][inside].tolist()
    # One of them is partly transparent: what was displayed is tested where that is computed.
    assert found["stack"].shape == (len(labels), 24, 24, 3)
    assert found["stack"].dtype == np.uint8
    for picture, listed, label in zip(found["stack"], found["listed"], labels, strict=True):
        np.testing.assert_array_equal(picture, listed)
        if label.endswith(".jpg"):
            np.testing.assert_array_equal(picture, shown(files[label]))
    by_name = embeddings(folder, "SigLIP2")
    expected = np.stack([by_name[label] for label in trials["label"]])
    np.testing.assert_array_equal(found["every_feature"], expected)
    np.testing.assert_array_equal(found["features"], expected[inside])

    trial = found["trial"]
    label = trials["label"][trial]
    np.testing.assert_array_equal(found["its_feature"], by_name[label])
    assert found["its_bytes"] == files[label]
    texts = captions(folder)
    own = texts[texts["image_name"] == label].sort_values("caption_idx", ignore_index=True)
    assert found["its_captions"]["caption"].tolist() == own["caption"].tolist()
    human = own.loc[own["source"] == "human", "caption"].tolist()
    assert found["its_texts"] == human
    rows = pd.read_csv(folder / "task-images_desc-segmentations_metadata.csv", na_filter=False)
    rows = rows[(rows["image_name"] == label) & (rows["localized"].astype(int) == 1)]
    assert found["its_nouns"] == list(dict.fromkeys(rows["noun"]))
    (row,) = rows.loc[(rows["noun"] == found["its_nouns"][0]) & (rows["instance_id"] == 0)].index
    with h5py.File(folder / "task-images_desc-segmentations.h5") as file:
        np.testing.assert_array_equal(found["its_mask"], file["masks"][rows["mask_row"][row]])
    assert found["shown"]


def test_divisions(data_dir, own_splits, environment):
    source, found = Source(data_dir, "sub-01"), run("divisions")

    def sides(pool: str, name: str) -> list[np.ndarray]:
        text = (own_splits / pool / f"{name}.json").read_text(encoding="utf-8")
        (variant,) = json.loads(text)["variants"]
        return [labels.isin(variant[side]).to_numpy() for side in ("train_ids", "test_ids")]

    labels = source.all_trials()["label"]
    betas = source.stacked(source.mask & source.roi("laionventral"))
    train, test = sides("sub-01", "tau")
    assert train.any()
    assert test.any()
    np.testing.assert_array_equal(found["x_train"], betas[train])
    np.testing.assert_array_equal(found["x_test"], betas[test])
    np.testing.assert_array_equal(found["by_label"], sides("sub-01", "cluster_k5_3"))
    np.testing.assert_array_equal(found["by_list"], sides("shared", "random_2"))
    assert all(type(mask) is np.ndarray for mask in (found["train"], *found["by_list"]))
    np.testing.assert_array_equal(
        found["without_ood"], betas[~labels.str.contains("_OOD_").to_numpy()]
    )
    assert found["cropped"] == [name for name in found["ood"] if "_OOD_cropped_" in name]
    assert found["cropped"]
    sizes = len(found["variant"].train_ids), len(found["variant"].test_ids)
    assert found["family"] == ("cluster_k5_3", "sub-01", "cluster_k5", *sizes)
    assert list(found["sizes"]) == found["listed"][1]
    assert found["sizes"]["ood"][1] == len(found["ood"])


def test_people(data_dir, environment):
    found = run("people")
    sources = {subject: Source(data_dir, subject) for subject in ("sub-01", "sub-03")}
    assert found["ids"] == list(sources)
    assert found["first"] == "sub-01"
    assert found["everyone"] == 2
    for subject, source in sources.items():
        faces = source.mask & source.roi("face")
        assert found["sizes"][subject] == source.betas("ses-02", faces).shape
        keep = source.mask & source.roi("laionventral") & (source.ceiling("ses-01") >= 10)
        shared = source.trials("ses-01")["label"].str.startswith("shared_").to_numpy()
        betas = source.betas("ses-01", keep)[shared]
        np.testing.assert_array_equal(found["shared"][subject], betas)
        np.testing.assert_array_equal(found["means"][subject], betas.mean(axis=0))
    source = sources["sub-03"]
    np.testing.assert_array_equal(found["same"], source.ceiling("ses-01")[source.mask])

    seen = [set(source.all_trials()["label"]) for source in sources.values()]
    names = sorted(name for name in set.intersection(*seen) if name.startswith("shared_"))
    assert found["table"]["image_name"].tolist() == names
    table = pd.read_csv(data_dir / "stimuli" / "task-images_metadata.csv")
    with h5py.File(data_dir / "stimuli" / "task-images_stimuli.h5") as file:
        files = dict(zip(table["image_name"], map(bytes, file["images"][:]), strict=True))
    encoded = [Image.open(io.BytesIO(files[name])) for name in names]
    assert found["modes"] == {name: image.mode for name, image in zip(names, encoded, strict=True)}
    assert "RGBA" in found["modes"].values()
    for name, picture, stacked in zip(names, found["pictures"], found["stacked"], strict=True):
        np.testing.assert_array_equal(np.array(picture.convert("RGB")), shown(files[name]))
        if name.endswith(".jpg"):
            np.testing.assert_array_equal(stacked, shown(files[name]))
    with pytest.raises(ValueError, match="format"):
        found["group"].get_shared_images(format="torch")


def test_tensors(data_dir, environment):
    pytest.importorskip("torch")
    source, found = Source(data_dir, "sub-01"), run("tensors")
    trials = source.trials("ses-02")
    assert len(found["dataset"]) == len(trials)
    ventral = source.betas("ses-02", source.mask & source.roi("laionventral"))
    np.testing.assert_array_equal(found["item"]["betas"].numpy(), ventral[8])
    label = trials["label"][8]
    assert (found["item"]["image_name"], found["item"]["session"]) == (label, "ses-02")
    before = (source.trials("ses-01")["label"] == label).sum()
    assert found["item"]["rep_index"] == before + (trials["label"][:8] == label).sum()
    assert label.endswith(".jpg")
    with h5py.File(data_dir / "stimuli" / "task-images_stimuli.h5") as file:
        names = pd.read_csv(data_dir / "stimuli" / "task-images_metadata.csv")["image_name"]
        picture = shown(bytes(file["images"][names.tolist().index(label)]))
    np.testing.assert_allclose(
        found["item"]["image"].numpy(), picture.transpose(2, 0, 1) / 255, atol=1e-6
    )
    keep = source.mask & source.roi("face") & ~source.roi("FFA1")
    np.testing.assert_array_equal(found["betas"], source.betas("ses-01", keep))
    assert found["names"] == source.trials("ses-01")["label"].tolist()
    assert -1 <= found["lowest"] < 0


def test_templates(old, data_dir, monkeypatch, tmp_path):
    """Values equal those of the labelled arrays, in the containers of the numpy package."""
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(data_dir))
    labelled = old._labelled
    values = old.get_betas("ses-01")[:3]
    both = old.to_template(values, "fsaverage", surface="pial")
    expected = labelled.to_template(values, "fsaverage", surface="pial").compute()
    assert list(both) == ["L", "R"]
    for hemi, found in both.items():
        assert type(found) is np.ndarray
        assert found.shape == (3, 10242)
        np.testing.assert_array_equal(found, expected.sel(hemi=hemi))
    left = templates.to_template(
        old, values[0], "fsaverage", hemi="L", surface="pial", interpolation="nearest"
    )
    expected = labelled.to_template(
        values[0], "fsaverage", hemi="L", surface="pial", interpolation="nearest"
    )
    np.testing.assert_array_equal(left, expected)
    image = old.to_template(values, "MNI305")
    expected = labelled.to_template(values, "MNI305").compute()
    assert isinstance(image, nib.Nifti1Image)
    np.testing.assert_array_equal(image.affine.ravel(), expected.attrs["affine"])
    for trial in range(3):
        np.testing.assert_array_equal(image.dataobj[..., trial], expected[trial])
    forms = {
        hemi: its["func.gii"][None].astype(np.float32)
        for hemi, its in old.get_roi_data("laionEVC")["laionEVC"]["gii"].items()
    }
    both = old.surface_to_template(forms)
    expected = labelled.surface_to_template(forms)
    assert list(both) == ["L", "R"]
    np.testing.assert_array_equal(both["R"], expected.sel(hemi="R"))
    assert both["R"].shape == (1, 10242)
    left = templates.surface_to_template(old, forms["hemi-L"][0], hemi="L")
    np.testing.assert_array_equal(left, both["L"][0])
    assert templates.volume_to_template(old, values[0], "MNI305").shape == (91, 109, 91)
    files = {"output_dir": tmp_path, "desc": "MeanBeta", "session": "ses-01"}
    found = templates.volume_to_surface(old, values[0], hemi="R", **files)
    assert type(found) is np.ndarray
    (written,) = tmp_path.iterdir()
    assert written.name == (
        "sub-01_ses-01_space-fsaverage_den-10k_hemi-R_desc-MeanBeta_statmap.func.gii"
    )
    volume = old.unmask(values[1])
    mask = old.get_brain_mask().reshape(volume.shape)
    np.testing.assert_array_equal(volume[mask], values[1])
    assert np.isnan(volume[~mask]).all()


# -- what comes back is an array, and the caller's own

CALLS = {
    "get_betas": lambda sub: sub.get_betas("ses-01", "face"),
    "get_betas, whole brain": lambda sub: sub.get_betas("ses-01"),
    "get_betas, all sessions": lambda sub: sub.get_betas(roi="laiongeneral"),
    "get_betas, by session": lambda sub: sub.get_betas(["ses-02"])["ses-02"],
    "get_noise_ceiling": lambda sub: sub.get_noise_ceiling("ses-01"),
    "get_noise_ceiling, across": lambda sub: sub.get_noise_ceiling(desc="Noiseceiling4rep"),
    "get_brain_mask": lambda sub: sub.get_brain_mask(),
    "get_brain_mask, full": lambda sub: sub.get_brain_mask(res=None),
    "get_roi_mask": lambda sub: sub.get_roi_mask("all"),
    "get_roi_masks": lambda sub: sub.get_roi_masks(["face", "FFA1"])["FFA1"],
    "get_roi_data, volume": lambda sub: sub.get_roi_data("PPA")["PPA"]["volume"],
    "get_roi_data, mask": lambda sub: sub.get_roi_data("PPA")["PPA"]["gii"]["hemi-L"]["func.gii"],
    "get_roi_data, label": lambda sub: sub.get_roi_data("PPA")["PPA"]["gii"]["hemi-R"]["label"],
    "get_voxel_coordinates": lambda sub: sub.get_voxel_coordinates(),
    "unmask": lambda sub: sub.unmask(np.ones(sub.get_n_voxels())),
    "images.array": lambda sub: sub.images.array("ses-01"),
    "embeddings.all": lambda sub: sub.embeddings.all("CLIP"),
    "embeddings.get": lambda sub: sub.embeddings.get("CLIP", 3),
    "embeddings[]": lambda sub: sub.embeddings["CLIP"],
    "segmentations[]": lambda sub: sub.segmentations[1],
}


@pytest.mark.parametrize("call", CALLS)
def test_arrays_are_the_callers_own(call, old):
    before = CALLS[call](old)
    assert type(before) is np.ndarray
    assert before.flags.c_contiguous
    kept = before.copy()
    before[...] = ~before if before.dtype == bool else 77
    assert not np.array_equal(before, kept)
    np.testing.assert_array_equal(CALLS[call](old), kept)


def test_what_is_not_converted_is_passed_on(old, sub):
    assert old.subject_id == "sub-01"
    assert old.get_sessions() == sub.get_sessions()
    assert old.get_available_rois("face") == sub.get_available_rois("face")
    pd.testing.assert_frame_equal(old.metadata, sub.metadata)
    assert {"get_sessions", "metadata", "get_betas", "has_freesurfer"} <= set(dir(old))
    assert repr(old).startswith("<laion_zarr.Subject sub-01>")
    with pytest.raises(AttributeError, match="get_ROI"):
        old.get_ROI("FFA1")


def test_pickles(old):
    sent = pickle.loads(pickle.dumps(old))
    np.testing.assert_array_equal(sent.get_betas("ses-01", "face"), old.get_betas("ses-01", "face"))


def test_import_is_light():
    code = "import sys, laion_zarr.compat as c; c.get_data_dir; print('xarray' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


# -- stores, and errors


def test_stores(data_dir, store, monkeypatch):
    """A store as an argument, by data directory, by `dataset_initialize`; the argument wins."""
    theirs = compat.load_subject("sub-01", store).get_betas("ses-02", "laionventral")
    ours = compat.Subject("01", data_dir).get_betas("ses-02", "laionventral")
    assert np.isnan(ours).any()
    assert not np.isnan(theirs).any()
    compat.dataset_initialize(str(data_dir))
    assert compat.get_data_dir() == str(data_dir)
    np.testing.assert_array_equal(
        compat.load_subject("sub-01").get_betas("ses-02", "laionventral"), ours
    )
    np.testing.assert_array_equal(
        compat.load_stimuli(store=store).embeddings["CLIP"],
        compat.load_embeddings("CLIP", data_dir)["CLIP"],
    )
    with pytest.raises(ValueError, match="exclude each other"):
        compat.load_stimuli(data_dir, store=store)


def test_errors(old, tmp_path):
    with pytest.raises(_errors.DataDirNotSetError):
        compat.load_subject("sub-01")
    with pytest.raises(_errors.SubjectNotFoundError):
        compat.load_subject("sub-", tmp_path)
    with pytest.raises(_errors.DataNotFoundError):
        compat.Subject("sub-07", tmp_path)
    with pytest.raises(FileNotFoundError):
        compat.load_stimuli(tmp_path)
    with pytest.raises(ValueError, match="exclude each other"):
        old.get_betas("ses-01", roi="face", mask=np.ones(old.get_n_voxels(), dtype=bool))
    with pytest.raises(ValueError, match="Unknown ROI"):
        old.get_roi_mask("FFA9")
    with pytest.raises(ValueError, match=r"session.*desc"):
        old.get_noise_ceiling()
    with pytest.raises(_errors.DataNotDownloadedError):
        old.get_noise_ceiling(desc="Noiseceiling99rep")
    with pytest.raises(KeyError):
        old.embeddings.get("VGG", 0)
    assert issubclass(errors.NotConvertedError, _errors.DataNotDownloadedError)
    assert compat.resolve_subject_id("03") == "sub-03"
