"""Make the tiny store of this version, which later versions must open.

It has one of every kind of part.

``python tests/store/make_kept_store.py`` writes ``tests/store/kept/VERSION.tar.xz``, the store, and
``VERSION.npz``, what its source files hold. The answers are read by nibabel, h5py, numpy and pandas
alone, so ``test_kept_stores.py`` compares a store with its sources, not with an earlier reader.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
import warnings
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd

import laion_zarr
from laion_zarr.conversion import add_splits, convert
from laion_zarr.conversion.synthetic import Size, write_dataset
from laion_zarr.conversion.synthetic.split_files import write_splits

KEPT = Path(__file__).parent / "kept"
SIZE = Size((7, 9, 8), 26.0, (5, 6), 1, (9, 11, 10), 20.0, (2, 2), 12, (3, 3, 3, 4), 1)
FEW = ("label-FFA1", "label-V1v")  # ROIs
GLM = "derivatives/glmsingle-tedana/sub-01"
ANATOMY = "derivatives/anatomical/sub-01/ses-PrismaAnat/anat/sub-01_ses-PrismaAnat_space-T1w"
FLOC = "derivatives/localizers/sub-01/ses-4BarScreenfLoc/func/sub-01_ses-4BarScreenfLoc_task-floc"
RECON = "derivatives/freesurfer/sub-01/surf"


def make_mirror(root: Path) -> Path:
    """A synthetic mirror of one subject, with few ROIs and localizer maps."""
    write_dataset(root, SIZE, ["sub-01"])
    for path in root.glob("derivatives/rois/sub-01/*/*label-*"):
        if not any(f"{name}_" in path.name or f"{name}." in path.name for name in FEW):
            path.unlink()
    for path in root.glob("derivatives/localizers/**/*_statmap*"):
        if "_contrast-faceVsOthers_stat-z_" not in path.name:
            path.unlink()
    for folder in sorted(root.glob("derivatives/rois/sub-01/*")):
        if not any(folder.iterdir()):
            folder.rmdir()
    return root


class Answers:
    """What the files of a mirror hold."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inside = self.volume(f"{ANATOMY}_res-1pt8_desc-brain_mask.nii.gz").ravel() != 0

    def volume(self, path: str) -> np.ndarray:
        return np.asarray(nib.load(self.root / path).dataobj)

    def on_voxels(self, path: str) -> np.ndarray:
        """Values of a map, or of a series (time last), at the voxels of the anatomical mask."""
        values = self.volume(path)
        return values.reshape(self.inside.size, *values.shape[3:])[self.inside].T

    def table(self, path: str) -> pd.DataFrame:
        return pd.read_csv(self.root / path, sep="\t" if path.endswith("tsv") else ",")

    def h5(self, name: str) -> h5py.File:
        return h5py.File(self.root / f"stimuli/task-images_{name}.h5")

    def of_trials(self) -> dict[str, np.ndarray]:
        stems = [f"{GLM}/{ses}/func/sub-01_{ses}_task-images" for ses in SIZE.sessions]
        betas = "space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz"
        tables = [
            self.table(f"{stem}_desc-SingletrialBetas_trials.tsv").sort_values("beta_index")
            for stem in stems
        ]
        events = self.table("sub-01/ses-01/func/sub-01_ses-01_task-images_run-01_events.tsv")
        return {
            "betas": np.concatenate([self.on_voxels(f"{stem}_{betas}") for stem in stems]),
            "image_name": np.array([name for table in tables for name in table["label"]]),
            "response_time": events["response_time"].to_numpy(float),
        }

    def averages(self) -> np.ndarray:
        """Mean z-score of each voxel over the trials of each image, images by name."""
        found = self.of_trials()
        names, last = found["image_name"], np.cumsum(SIZE.trials)[:-1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of voxels that are NaN
            scores = [
                (own - np.nanmean(own, axis=0)) / np.nanstd(own, axis=0)
                for own in np.split(found["betas"].astype(float), last)
            ]
            scored = np.concatenate(scores)
            means = [np.nanmean(scored[names == name], axis=0) for name in sorted(set(names))]
        return np.array(means)

    def of_voxels(self) -> dict[str, np.ndarray]:
        glm = f"{GLM}/sub-01_task-images_space-T1w"
        bold = "derivatives/tedana/sub-01/ses-01/func/sub-01_ses-01_task-images_run-01_space-T1w"
        session = f"{GLM}/ses-02/func/sub-01_ses-02_task-images_space-T1w"
        (ffa1,) = self.root.glob("derivatives/rois/sub-01/face/*res-1pt8_label-FFA1*.nii.gz")
        return {
            "voxel": np.flatnonzero(self.inside),
            "roi": self.on_voxels(str(ffa1.relative_to(self.root))) != 0,
            "noise_ceiling": self.on_voxels(f"{glm}_desc-NoiseceilingAllrep_statmap.nii.gz"),
            "r2": self.on_voxels(f"{session}_stat-rsquare_desc-R2_statmap.nii.gz"),
            "localizer": self.on_voxels(
                f"{FLOC}_space-T1w_res-1pt8_contrast-faceVsOthers_stat-z_statmap.nii.gz"
            ),
            "bold": self.on_voxels(f"{bold}_desc-optcom_bold.nii.gz"),
        }

    def of_surfaces(self) -> dict[str, np.ndarray]:
        _, faces = nib.freesurfer.read_geometry(self.root / RECON / "lh.pial")
        path = f"{FLOC}_hemi-L_space-fsnative_contrast-faceVsOthers_stat-z_statmap.func.gii"
        (fine,) = self.root.glob("derivatives/rois/sub-01/face/*res-1pt5_label-FFA1*.nii.gz")
        (label,) = self.root.glob("derivatives/rois/sub-01/face/*hemi-R*label-FFA1*.label")
        return {
            "faces": faces,
            "sphere": nib.freesurfer.read_geometry(self.root / RECON / "lh.sphere.reg")[0],
            "localizer_surface": nib.load(self.root / path).darrays[0].data,
            "roi_1pt5": self.volume(str(fine.relative_to(self.root))) != 0,
            "roi_label": np.loadtxt(label, skiprows=2, ndmin=2)[:, 0].astype(int),
            "brain_full": self.volume(f"{ANATOMY}_desc-brain_mask.nii.gz").ravel() != 0,
        }

    def of_stimuli(self, splits: Path) -> dict[str, np.ndarray]:
        metadata = self.table("stimuli/task-images_metadata.csv")
        segments = self.table("stimuli/task-images_desc-segmentations_metadata.csv")
        captions = self.table("stimuli/task-images_desc-captions.csv")
        first = segments[(segments["instance_id"] == 0) & segments["localized"]].iloc[0]
        human = captions[captions["source"] == "human"].sort_values("caption_idx")
        with self.h5("stimuli") as stimuli, self.h5("desc-CLIP_embeddings") as embeddings:
            picture = stimuli["images"][3]
            rows = list(embeddings["image_ids"].asstr()[:])
            # One image whose embedding is valid, wherever its row is.
            valid = next(row for row in range(len(rows)) if embeddings["valid"][row])
            feature = embeddings["embedding"][valid]
        with self.h5("desc-segmentations") as masks:
            mask = masks["masks"][int(first["mask_row"])] != 0
        split = json.loads((splits / "sub-01" / "tau.json").read_text())
        return {
            "stimulus": metadata["image_name"].to_numpy(str),
            "picture": picture,
            "embedding_of": np.array(rows[valid]),
            "embedding": feature,
            "mask_of": np.array([first["image_name"], first["noun"]]),
            "mask": mask,
            "captions": human[human["image_name"] == first["image_name"]]["caption"].to_numpy(str),
            "test_images": np.array(split["variants"][0]["test_ids"]),
        }


def pack(store: Path, target: Path) -> None:
    """Put a store into one file: the same store gives the same bytes."""
    with tarfile.open(target, "w:xz", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(path for path in store.rglob("*") if path.is_file()):
            about = tarfile.TarInfo(path.relative_to(store).as_posix())
            about.size = path.stat().st_size
            with path.open("rb") as file:
                archive.addfile(about, file)


def main() -> None:
    """Write the store and the answers of this version."""
    work = Path(tempfile.mkdtemp())
    root, store = make_mirror(work / "mirror"), work / "laion-fmri.zarr"
    splits = write_splits(work / "splits", SIZE)
    convert(root, store, progress=False)
    convert(root, store, parts=["bold", "averages"], progress=False)
    add_splits(splits, store)
    answers = Answers(root)
    values = (
        {"averages": answers.averages()}
        | answers.of_trials()
        | answers.of_voxels()
        | answers.of_surfaces()
    )
    target = KEPT / laion_zarr.__version__
    np.savez_compressed(f"{target}.npz", **values, **answers.of_stimuli(splits))
    pack(store, Path(f"{target}.tar.xz"))
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
