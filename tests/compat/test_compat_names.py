"""Every public name of the numpy package is in `compat`, or the reason why not is listed here."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

from laion_zarr import compat, load_stimuli

# What the numpy package offers, written down from its source: modules, names, parameters. Where its
# versions differ, the newest. Properties have no parentheses.
NAMES = """
config      dataset_initialize(path)
config      get_data_dir()
discovery   get_subjects()
discovery   get_rois(subject=None, category=None)
discovery   describe()
discovery   inspect_bucket()
download    download(subject, ses=None, task=None, space=None, desc=None, stat=None, suffix=None,
                extension=None, include_stimuli=False, n_jobs=1)
download    download_stimuli(data_dir=None, server_url=None)
download    download_embeddings(models="all", data_dir=None, n_jobs=1)
download    download_segmentations(data_dir=None)
download    download_captions(data_dir=None)
download    download_raw(subject, ses=None, run=None)
download    accept_license()
download    accept_licenses(include_stimuli=False)
download    request_stimulus_access(server_url=None)
subject     load_subject(subject)
subject     Subject(subject_id, data_dir)
subject     Subject.subject_id
subject     Subject.metadata
subject     Subject.images
subject     Subject.embeddings
subject     Subject.segmentations
subject     Subject.captions
subject     Subject.get_sessions()
subject     Subject.get_available_rois(category=None)
subject     Subject.get_available_categories()
subject     Subject.get_n_stimuli(stimuli=None)
subject     Subject.get_n_voxels(source="anatomical", res="1pt8")
subject     Subject.get_brain_mask(source="anatomical", res="1pt8")
subject     Subject.get_betas(session, roi=None, mask=None, nc_threshold=None, stimuli=None,
                streaming=False, mask_source="anatomical")
subject     Subject.get_roi_mask(query, mask_source="anatomical")
subject     Subject.get_roi_masks(queries, mask_source="anatomical")
subject     Subject.get_roi_data(query, format=None, hemi=None)
subject     Subject.get_noise_ceiling(session=None, desc=None, roi=None, mask=None,
                mask_source="anatomical")
subject     Subject.get_trial_info(session)
subject     Subject.has_stimuli()
subject     Subject.to_nifti(values, output_path, roi=None, mask=None, mask_source="anatomical")
subject     Subject.get_voxel_coordinates(roi=None, mask=None, mask_source="anatomical")
subject     Subject.has_anatomical()
subject     Subject.get_anatomical_dir()
subject     Subject.get_t1w(res=None)
subject     Subject.get_t2w(res=None)
subject     Subject.get_anatomical_brain_mask(res=None)
subject     Subject.has_freesurfer()
subject     Subject.get_freesurfer_dir()
subject     Subject.has_raw(session=None)
subject     Subject.get_events(session, run=None)
subject     Subject.get_raw_bold(session, run, echo)
subject     Subject.get_sbref(session, run, echo)
subject     Subject.to_torch_dataset()
subject     Subject.to_template(values, target, hemi=None, route="auto", surface="white",
                fsaverage_density="fsaverage5", fslr_density="32k", interpolation="linear",
                output_dir=None, desc=None, session=None, mask_source="anatomical")
subject     Subject.volume_to_template(values, target)
subject     Subject.volume_to_surface(values, target="fsaverage")
subject     Subject.surface_to_template(values, target="fsaverage")
subject     Subject.images.get(trial_idx, as_displayed=True)
subject     Subject.images.all(session=None)
subject     Subject.images.array(session=None)
subject     Subject.embeddings.models
subject     Subject.embeddings.get(model, trial_idx)
subject     Subject.embeddings.all(model, session=None)
subject     Subject.segmentations.has_image(trial_idx)
subject     Subject.segmentations.nouns(trial_idx, localized_only=True)
subject     Subject.segmentations.for_image(trial_idx)
subject     Subject.segmentations.get(trial_idx, noun, instance=0)
subject     Subject.captions.list(trial_idx, source=None)
subject     Subject.captions.human(trial_idx, limit=None)
subject     Subject.captions.ai(trial_idx)
subject     Subject.captions.for_image(trial_idx)
stimuli     load_stimuli(data_dir=None)
stimuli     as_displayed_rgb(image)
stimuli     Stimuli(data_dir=None)
stimuli     Stimuli.close()
stimuli     Stimuli.metadata
stimuli     Stimuli.images.metadata
stimuli     Stimuli.images.get(key, as_displayed=True)
stimuli     Stimuli.images.index_of(name)
stimuli     Stimuli.images.names()
stimuli     Stimuli.embeddings.models
stimuli     Stimuli.embeddings.image_ids
stimuli     Stimuli.segmentations.images()
stimuli     Stimuli.captions.images()
embeddings  AVAILABLE_MODELS
embeddings  load_embeddings(models="all", data_dir=None)
embeddings  Embeddings(models, data_dir=None)
embeddings  Embeddings.models
embeddings  Embeddings.image_ids
embeddings  Embeddings.close()
embeddings  Embeddings.get(model, image_name)
segmentations   Segmentations(data_dir=None)
segmentations   Segmentations.close()
segmentations   Segmentations.metadata
segmentations   Segmentations.get(image_name, noun, instance=0)
segmentations   Segmentations.for_image(image_name)
segmentations   Segmentations.nouns(image_name, localized_only=True)
segmentations   Segmentations.has_image(image_name)
segmentations   Segmentations.images()
captions    Captions(data_dir=None)
captions    Captions.metadata
captions    Captions.images()
captions    Captions.get(image_name)
captions    Captions.human(image_name, limit=None)
captions    Captions.list(image_name, source=None)
captions    Captions.ai(image_name)
io          load_nifti_mask(path)
io          load_nifti_data(path, mask_path)
io          load_nifti_4d(path, voxel_mask, streaming=False)
io          load_nifti_with_affine(path)
io          load_tsv(path)
io          load_gifti_mask(path)
io          load_freesurfer_label(path)
brain       to_nifti(values, output_path, brain_mask_path, affine, roi_mask=None, custom_mask=None)
brain       get_voxel_coordinates(brain_mask_path, affine, roi_mask=None, custom_mask=None)
splits      list_pools()
splits      list_splits()
splits      list_ood_types()
splits      load_split(name, pool)
splits      load_all_splits(pool)
splits      get_train_test_ids(name, pool, variant_id=0, ood_types=None)
splits      get_split_masks(trials, name, pool, variant_id=0, ood_types=None)
splits      Split(name, pool, splitter, params, n_train, n_test, variants)
splits      SplitVariant(variant_id, train_ids, test_ids)
group       load_subjects(subjects)
group       Group(subjects_dict)
group       Group.get_shared_betas(session, roi=None, mask=None, nc_threshold=None,
                mask_source="anatomical")
group       Group.get_shared_images(format="pil")
group       Group.get_shared_stimulus_metadata()
torch_data  LaionFMRIDataset(subject, session, roi=None, mask=None, nc_threshold=None,
                image_transform=None, mask_source="anatomical")
templates   to_template(subject, values, target)
templates   volume_to_template(subject, values, target)
templates   volume_to_surface(subject, values, target="fsaverage")
templates   surface_to_template(subject, values, target="fsaverage")
derivatives localizer_statmap_path(subject, task, contrast, session, space="fsnative", hemi=None,
                res="1pt5", data_dir=None)
derivatives localizer_effect_path(subject, task, condition, session, run, space="fsnative",
                hemi=None, res="1pt5", data_dir=None)
"""

TOP_LEVEL = """
Captions DataDirNotSetError DataNotDownloadedError DataNotFoundError Embeddings Group
LicenseNotAcceptedError NoMatchingDataError Segmentations Stimuli StimuliNotDownloadedError Subject
SubjectNotFoundError __version__ as_displayed_rgb dataset_initialize describe download_captions
download_embeddings download_segmentations download_stimuli get_data_dir get_rois get_subjects
load_embeddings load_stimuli load_subject load_subjects
request_stimulus_access resolve_subject_id set_data_dir
"""

ABSENT = {}

# Parameters that differ, and why; those of one kind (an image or a trial) are one to ours.
_DIR = "files go to the data directory that is set: dataset_initialize or LAION_ZARR_DATA_DIR"
_URL = "set LAION_ZARR_ACCESS_URL"
OTHER_PARAMETERS = {
    "subject.Subject.to_template": {
        "route": "every target has one",
        "fslr_density": "there is no such target",
    },
    "download.download_stimuli": {"data_dir": _DIR, "server_url": _URL},
    "download.download_embeddings": {
        "models": 'None, the default, is "all"; both are taken',
        "data_dir": _DIR,
        "n_jobs": "few large files, fetched at once",
    },
    "download.download_segmentations": {"data_dir": _DIR},
    "download.download_captions": {"data_dir": _DIR},
    "download.download": {"n_jobs": "comes last, after the other include_… options"},
    "download.request_stimulus_access": {"server_url": _URL},
}
SAME_THING = {"trial_idx": "key", "image_name": "key"}


def table() -> dict[str, tuple[bool, list[ast.arg], list[ast.expr | None]]]:
    """Dotted name -> whether it is called, its parameters and their defaults."""
    found = {}
    for line in re.sub(r"\n {9,}", " ", NAMES).strip().splitlines():
        module, signature = line.split(maxsplit=1)
        name, called, rest = signature.partition("(")
        (function,) = ast.parse(f"def f({rest[:-1] if called else ''}): ...").body
        assert isinstance(function, ast.FunctionDef)
        args = function.args.args
        defaults = [None] * (len(args) - len(function.args.defaults)) + function.args.defaults
        found[f"{module}.{name}"] = bool(called), args, defaults
    return found


TABLE = table()


@pytest.fixture(scope="module")
def instances(store):
    """One object of each class: attributes that are passed on exist on objects, not on classes."""
    return {
        "Subject": compat.load_subject("sub-01", store),
        "Stimuli": compat.load_stimuli(store=store),
        "Embeddings": compat.load_embeddings(store=store),
        "Segmentations": compat.Segmentations(store=store),
        "Captions": compat.Captions(store=store),
        "Group": compat.load_subjects("all", store),
    }


def find(name: str, instances: dict[str, Any]) -> Any:
    module, *path = name.split(".")
    found = importlib.import_module(f"laion_zarr.compat.{module}")
    for position, part in enumerate(path):
        within = len(path) > 1 and position == 0
        found = instances[part] if within else getattr(found, part)
    return found


@pytest.mark.parametrize("name", sorted(set(TABLE) - set(ABSENT)))
def test_name_and_parameters(name, instances):
    called, wanted, defaults = TABLE[name]
    found = find(name, instances)
    if not called:
        return
    ours = [
        parameter
        for parameter in inspect.signature(found).parameters.values()
        if parameter.name not in OTHER_PARAMETERS.get(name, {})
    ]
    theirs = [
        (argument.arg, default)
        for argument, default in zip(wanted, defaults, strict=True)
        if argument.arg not in OTHER_PARAMETERS.get(name, {})
    ]
    for (argument, default), parameter in zip(theirs, ours, strict=False):
        assert parameter.name in (argument, SAME_THING.get(argument))
        if default is not None:  # what had no default may have one
            assert parameter.default == ast.literal_eval(default)
    assert len(ours) >= len(theirs)
    for more in ours[len(theirs) :]:
        assert more.kind is more.VAR_KEYWORD or more.default is not more.empty


@pytest.mark.parametrize("name", sorted(ABSENT))
def test_what_is_absent_is_absent(name, instances):
    """A reason is not given for what is there."""
    with pytest.raises((ImportError, AttributeError)):
        find(name, instances)


def test_other_parameters_are_other():
    for name, parameters in OTHER_PARAMETERS.items():
        theirs = [argument.arg for argument in TABLE[name][1]]
        assert set(parameters) <= set(theirs), name


@pytest.mark.parametrize("name", TOP_LEVEL.split())
def test_top_level(name):
    assert getattr(compat, name) is not None
    assert name in dir(compat)


def test_top_level_is_all():
    assert {*TOP_LEVEL.split()} == {*compat.__all__, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'load'"):
        _ = compat.load


def public_results(thing: Any) -> dict[str, Callable[[], Any]]:
    """Public members of one of our objects that give labelled arrays, by their annotation."""
    found = {}
    for name, member in inspect.getmembers(type(thing)):
        function = member.fget if isinstance(member, property) else member
        if not name.startswith("_") and callable(function):
            returned = getattr(function, "__annotations__", {}).get("return", "")
            if "DataArray" in str(returned) or returned in ("Any", Any):
                found[name] = function
    return found


# Not in the numpy package: these return labelled arrays.
STAYS_LABELLED = {"dataset", "get_bold", "get_image_betas", "masks", "sel"}
TABLES = {"get_trial_info"}


def test_nothing_labelled_slips_through(instances):
    """Methods that return labelled arrays are defined anew in the view, not passed on."""
    sub, stim = instances["Subject"], instances["Stimuli"]
    views = [*instances.values(), sub.images, sub.embeddings, sub.segmentations, stim.images]
    for view in views:
        missing = set(public_results(view._labelled)) - vars_of(type(view))
        assert missing <= STAYS_LABELLED | TABLES, type(view)
    assert {"get_betas", "get_roi_mask"} <= set(public_results(sub._labelled))
    assert "array" in public_results(sub.images._labelled)


def vars_of(cls: type) -> set[str]:
    return {name for base in cls.__mro__ for name in vars(base)}


def test_pictures_of_stimuli_are_arrays(store):
    labelled = load_stimuli(store).images.array([0, 1])
    found = compat.load_stimuli(store=store).images.array([0, 1])
    assert isinstance(labelled, xr.DataArray)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, labelled.values)
