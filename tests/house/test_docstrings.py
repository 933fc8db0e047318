"""The public API is documented, has a page on the site, and its examples run."""

from __future__ import annotations

import ast
import doctest
import functools
import importlib
import inspect
import os
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest
from places import ROOT

import laion_zarr
import laion_zarr.conversion

# Modules without an underscore that have no page of their own.
WITHOUT_PAGE = {
    "laion_zarr.arrays": "not for users: what subjects and stimuli are made of",
    "laion_zarr.plots": "drawn by Subject.plot_voxels, which has its place on the subject's page",
    "laion_zarr.store": "not for users: the format is described in docs/store.md",
    "laion_zarr.templates": "called by Subject.to_nifti, .unmask and .to_template, there too",
}
# What users were promised: module, then names.
CONTRACT = """
analysis       zscore average_repeats noise_ceiling split_half_reliability
analysis       rdm fit_encoding predict score permutation_pvalue
captions       Captions
config         dataset_initialize get_data_dir get_store
conversion     convert verify add_splits outdated
derivatives    localizer_statmap_path localizer_effect_path
discovery      get_subjects get_rois describe inspect_bucket
download       download download_stimuli download_embeddings download_segmentations
download       download_raw download_captions accept_license accept_licenses request_stimulus_access
embeddings     load_embeddings Embeddings.get SubjectEmbeddings.all
errors         LaionZarrError DataDirNotSetError DataNotDownloadedError NotConvertedError
errors         StimuliNotDownloadedError SubjectNotFoundError LicenseNotAcceptedError
errors         AccessServiceError TermsOutdatedError SourceError StoreError
explorer       explore
group          load_subjects Group.get_shared_betas Group.get_shared_images
group          Group.get_shared_stimulus_metadata
images         Images.get Images.names Images.array SubjectImages.all SubjectImages.array
segmentations  Segmentations.nouns Segmentations.get Segmentations.for_image
segmentations  Segmentations.has_image Segmentations.images Segmentations.metadata
captions       Captions.human Captions.ai Captions.list Captions.get Captions.metadata
splits         list_pools list_splits list_ood_types load_split load_all_splits Split
splits         get_train_test_ids get_split_masks
stimuli        load_stimuli Stimuli.metadata Stimuli.dataset Stimuli.images Stimuli.embeddings
stimuli        Stimuli.segmentations Stimuli.captions
subject        load_subject Subject.subject_id Subject.get_sessions Subject.get_n_voxels
subject        Subject.dataset Subject.sel Subject.metadata Subject.get_betas
subject        Subject.get_image_betas Subject.get_noise_ceiling Subject.get_trial_info
subject        Subject.get_brain_mask Subject.get_available_rois Subject.get_available_categories
subject        Subject.get_roi_mask Subject.get_roi_masks Subject.get_roi_data
subject        Subject.get_available_localizers Subject.get_localizer Subject.get_localizer_surface
subject        Subject.get_localizer_volume Subject.get_roi_volume
subject        Subject.get_voxel_coordinates Subject.to_nifti Subject.has_anatomical
subject        Subject.get_anatomical_dir Subject.get_t1w Subject.get_t2w
subject        Subject.get_anatomical_brain_mask Subject.has_freesurfer Subject.get_freesurfer_dir
subject        Subject.has_stimuli Subject.get_stimulus_metadata Subject.get_n_stimuli
subject        Subject.images Subject.embeddings Subject.segmentations Subject.captions
subject        Subject.get_events Subject.get_bold Subject.get_raw_bold Subject.get_sbref
subject        Subject.has_raw
subject        Subject.to_torch_dataset Subject.to_template Subject.unmask Subject.plot_voxels
subject        Subject.explore Subject.has_geometry Subject.get_surface Subject.surface_to_template
subject        Subject.volume_to_surface Subject.volume_to_template Subject.sources
torch_data     LaionFMRIDataset
"""


def pages() -> dict[str, set[str]]:
    """Modules that a page of the site shows, and the names it leaves out."""
    text = "\n".join(path.read_text("utf-8") for path in sorted(ROOT.glob("docs/api/*.rst")))
    found = re.findall(r"automodule:: (\S+)\n((?:   :.*\n?)*)", text)
    assert all(":members:" in options for _, options in found)
    return {
        module: set(re.findall(r"\w+", "".join(re.findall(r":exclude-members:(.*)", options))))
        for module, options in found
    }


PAGES = pages()


def unwrapped(value: Any) -> Any:
    """The function behind a property, class or static method."""
    if isinstance(value, property):
        return value.fget
    if isinstance(value, functools.cached_property):
        return value.func
    return getattr(value, "__func__", value)


def members(owner: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that we wrote, inherited ones too."""
    for name in dir(owner):
        value = unwrapped(inspect.getattr_static(owner, name))
        if name.startswith("_") or not inspect.isfunction(value):
            continue
        if value.__module__.startswith("laion_zarr"):
            yield name, value


def public() -> dict[str, Any]:
    """Every object that the site documents, by full name."""
    found: dict[str, Any] = {}
    for module_name, left_out in PAGES.items():
        module = importlib.import_module(module_name)
        own = [
            name
            for name, value in vars(module).items()
            if (inspect.isfunction(value) or inspect.isclass(value))
            and value.__module__ == module_name
            and not name.startswith("_")
        ]
        for name in getattr(module, "__all__", own):
            if name not in left_out:
                value = getattr(module, name)
                found[f"{module_name}.{name}"] = value
                if inspect.isclass(value):
                    for inner, function in members(value):
                        found[f"{module_name}.{name}.{inner}"] = function
    return found


# Names and parameters of laion_zarr.compat are another package's: see compat/test_compat_names.py.
PUBLIC = {name: value for name, value in public().items() if ".compat." not in name}


def section(doc: str, title: str) -> str | None:
    """Text of one numpydoc section."""
    found = re.search(rf"^{title}\n-{{{len(title)}}}\n(.*?)(?=^[^\n]+\n---+$|\Z)", doc, re.M | re.S)
    return found[1] if found else None


def documented(doc: str) -> list[str]:
    """Names in the section of parameters, in order."""
    lines = re.findall(r"^(\S.*?)(?: :.*)?$", section(doc, "Parameters") or "", re.MULTILINE)
    return [name.strip().lstrip("*") for line in lines for name in line.split(",")]


def parameters(value: Any) -> list[str]:
    """Names in the signature, in order."""
    return [name for name in inspect.signature(value).parameters if name not in ("self", "cls")]


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_is_documented(name):
    value = PUBLIC[name]
    doc = inspect.getdoc(value)
    assert doc
    summary, *rest = doc.split("\n")
    assert summary.endswith("."), "one line that says what it is, then a full stop"
    assert not rest or not rest[0]
    if inspect.isfunction(value):
        assert sorted(documented(doc)) == sorted(parameters(value))
        gives = inspect.signature(value).return_annotation not in (None, "None")
        if parameters(value) and gives:
            assert section(doc, "Returns") or section(doc, "Yields")
    elif documented(doc) or value.__name__ in laion_zarr.__all__:  # users make these themselves
        assert sorted(documented(doc)) == sorted(parameters(value))


def promised() -> Iterator[str]:
    """Full names of the contract."""
    for line in CONTRACT.split("\n"):
        module, *names = line.split() or [""]
        yield from (f"laion_zarr.{module}.{name}" for name in names)


def test_what_was_promised_is_on_the_site():
    assert not set(promised()) - set(PUBLIC)


def test_top_level_names_are_on_the_site():
    shown = {id(value) for value in PUBLIC.values()}
    assert not [n for n in laion_zarr.__all__ if id(getattr(laion_zarr, n)) not in shown]


def test_public_modules_have_a_page():
    modules = {
        found.name
        for found in pkgutil.iter_modules(laion_zarr.__path__, "laion_zarr.")
        if not found.name.startswith("laion_zarr._")
    }
    modules.add("laion_zarr.conversion")  # in an editable install it lies elsewhere
    assert modules - set(WITHOUT_PAGE) == set(PAGES)
    listed = (ROOT / "docs" / "api" / "index.rst").read_text(encoding="utf-8")
    for page in ROOT.glob("docs/api/*.rst"):
        assert page.stem == "index" or re.search(rf"^   {page.stem}$", listed, re.MULTILINE), page


# -- examples


def modules_with_examples() -> Iterator[str]:
    """Modules of ours that have a `>>>` in some docstring, found without importing them."""
    for folder, package in (("laion_zarr", "laion_zarr"), ("conversion", "laion_zarr.conversion")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
            if any(">>>" in (ast.get_docstring(n) or "") for n in nodes if isinstance(n, kinds)):
                yield ".".join([package, *path.relative_to(ROOT / folder).with_suffix("").parts])


def examples() -> list[doctest.DocTest]:
    """The examples of each docstring, as one test."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [t for m in modules_with_examples() for t in finder.find(importlib.import_module(m))]
    return [test for test in found if test.examples]


EXAMPLES = examples()


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.name for example in EXAMPLES])
def test_example_runs(example, with_splits, bids_root, tmp_path, monkeypatch):
    if "torch" in (example.docstring or ""):
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAION_ZARR_STORE", os.fspath(with_splits))
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", os.fspath(bids_root))
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=said.append)
    assert not said, "".join(said)


def test_examples_are_found():
    """None is lost because doctest does not look into what holds it."""
    lines = sum(
        len(re.findall(r"^ *>>> ", path.read_text("utf-8"), re.MULTILINE))
        for folder in ("laion_zarr", "conversion")
        for path in (ROOT / folder).rglob("*.py")
    )
    assert lines == sum(len(test.examples) for test in EXAMPLES)
