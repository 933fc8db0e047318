"""Every public name where users import it; run it by the Python of an installed package.

``python tests/house/public_names.py`` needs nothing but that package, so a wheel and a source
distribution can be tried as a user has them; ``test_packaging.py`` does so where the tests run.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Module below laion_zarr ("." for the top), then names.
NAMES = """
.             Captions Segmentations Stimuli convert dataset_initialize describe
.             download_captions download_embeddings download_segmentations download_stimuli
.             explore get_data_dir load_embeddings load_stimuli load_subject load_subjects verify
analysis      average_repeats fit_encoding noise_ceiling permutation_pvalue predict rdm score
analysis      split_half_reliability zscore
captions      Captions ImageCaptions
config        dataset_initialize get_data_dir get_store store_initialize
conversion    Difference OutdatedReport Report SplitsReport add_splits convert outdated verify
conversion.cli        main
conversion.demo       run_demo use_demo
conversion.synthetic  SIZES Size write_dataset
derivatives   LOCALIZER_TASKS VOLUME_RESOLUTIONS localizer_effect_path localizer_statmap_path
discovery     describe get_rois get_subjects inspect_bucket
download      DownloadError Report accept_license accept_licenses download download_captions
download      download_embeddings download_raw download_segmentations download_stimuli
download      request_stimulus_access
embeddings    Embeddings SubjectEmbeddings load_embeddings
engine        LaionZarrBackend
errors        AccessServiceError DataDirNotSetError DataNotDownloadedError DownloadError
errors        LaionZarrError LicenseNotAcceptedError NotConvertedError SourceError
errors        StimuliNotDownloadedError StoreError StoreVersionError SubjectNotFoundError
errors        TermsOutdatedError UnknownNameError
explorer      explore
group         Group load_subjects
images        Images SubjectImages
plots         axial_slices brain colours mosaic surface_views tile upright
segmentations ImageSegmentations Segmentations
splits        Split SplitVariant assign_split get_split_masks get_train_test_ids list_ood_types
splits        list_pools list_splits load_all_splits load_split
stimuli       Stimuli load_stimuli
subject       Subject load_subject
templates     mni305_weights on_grid place surface_weights to_fsaverage to_mni305 unmask
templates     write_nifti write_volumes
torch_data    LaionFMRIDataset
compat        Captions DataDirNotSetError DataNotDownloadedError DataNotFoundError Embeddings
compat        Group LicenseNotAcceptedError NoMatchingDataError Segmentations Stimuli
compat        StimuliNotDownloadedError Subject SubjectNotFoundError as_displayed_rgb
compat        dataset_initialize describe download_captions download_embeddings
compat        download_segmentations download_stimuli get_data_dir get_rois get_subjects
compat        load_embeddings load_stimuli load_subject load_subjects request_stimulus_access
compat        resolve_subject_id set_data_dir
compat.brain          get_voxel_coordinates to_nifti
compat.captions       Captions
compat.config         dataset_initialize get_data_dir set_data_dir
compat.derivatives    LOCALIZER_TASKS VOLUME_RESOLUTIONS localizer_effect_path
compat.derivatives    localizer_statmap_path
compat.discovery      describe get_rois get_subjects inspect_bucket
compat.download       accept_license accept_licenses download download_captions
compat.download       download_embeddings download_raw download_segmentations download_stimuli
compat.download       request_stimulus_access
compat.embeddings     AVAILABLE_MODELS Embeddings load_embeddings
compat.group          Group load_subjects
compat.io             load_freesurfer_label load_gifti_mask load_nifti_4d load_nifti_data
compat.io             load_nifti_mask load_nifti_with_affine load_tsv
compat.segmentations  Segmentations
compat.splits         Split SplitVariant get_split_masks get_train_test_ids list_ood_types
compat.splits         list_pools list_splits load_all_splits load_split
compat.stimuli        Stimuli as_displayed_rgb load_stimuli
compat.subject        Subject load_subject resolve_subject_id
compat.templates      to_template
compat.torch_data     LaionFMRIDataset
"""

FILES = {
    "laion_zarr": "py.typed",
    "laion_zarr.conversion.cli": "schemas/info.json",
    "laion_zarr.conversion.parts": "may_splits.sha256",
}


def names() -> Iterator[tuple[str, str]]:
    """Full name of a module, and a name that it has."""
    for line in NAMES.strip().splitlines():
        module, *found = line.split()
        for name in found:
            yield ("laion_zarr" if module == "." else f"laion_zarr.{module}"), name


def absent() -> list[str]:
    """Names that cannot be imported from where users import them."""
    return [f"{m}.{n}" for m, n in names() if not hasattr(importlib.import_module(m), n)]


def problems() -> list[str]:
    """All that a user would miss of this installation."""
    found = absent()
    for package, file in FILES.items():
        if not importlib.resources.files(package).joinpath(file).is_file():
            found.append(f"{package}/{file}")
    (engine,) = importlib.metadata.entry_points(group="xarray.backends", name="laion_zarr")
    if not engine.load().description:
        found.append("the xarray engine")
    command = Path(sys.executable).with_name("laion-zarr")
    asked = subprocess.run([command, "--version"], capture_output=True, text=True)
    if asked.stdout.strip() != importlib.metadata.version("laion-zarr"):
        found.append(f"{command} --version: {asked.stdout}{asked.stderr}")
    return found


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file
    print(f"{len(list(names()))} names of {importlib.import_module('laion_zarr').__file__}")
    if importlib.util.find_spec("conversion"):
        sys.exit("conversion/ is installed under its bare name, too")
    sys.exit("missing: " + ", ".join(problems()) if problems() else 0)
