"""Random small mirrors of the release: what the package answers is what is in the files."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from hypothesis import assume, given
from hypothesis import strategies as st
from random_mirrors import (
    FULL_MASK,
    GLM,
    LABELS,
    MAP_FILES,
    MASK_FILES,
    METADATA,
    ROIS,
    SUB,
    Case,
    Files,
    Session,
    Spec,
    check_blocks,
    chunk_dicts,
    converted,
    examples,
    label_selections,
    plain_spec,
    roi_queries,
    same,
    same_betas,
    same_dataset,
    same_voxel_labels,
    some_of,
    trials_of,
    voxel_selections,
    write_mirror,
    write_nifti,
    write_table,
)
from random_mirrors import crowd as crowd
from trees import tree

from laion_zarr import convert, load_subject, verify
from laion_zarr.errors import NotConvertedError, SourceError

CEILINGS = ("Noiseceiling4rep", "Noiseceiling12rep", "NoiseceilingAllrep")


# -- what a mirror may look like

FLOATS = ("<f4", ">f4", "<f8", ">f8", "scaled <f4", "scaled >f8")
INTEGERS = ("i1", "u1", "<i2", ">i2", ">u2", "<i4", "<u4", ">i8", "scaled <i2", "scaled >i2")
KINDS = (*FLOATS, *INTEGERS)
HOLES = ("none", "voxel", "volume", "some", "infinite", "all")


@st.composite
def sessions(draw):
    names = draw(st.lists(st.integers(1, 30), min_size=1, max_size=3, unique=True))
    return tuple(
        Session(
            f"ses-{number:02d}",
            draw(st.sampled_from([1, 2, 3, 5, 7, 11, 13, 17, 19])),
            draw(st.sampled_from(KINDS)),
            draw(st.sampled_from(HOLES)),
            draw(some_of(tuple(MAP_FILES))),
            draw(st.booleans()),
        )
        for number in sorted(names)
    )


@st.composite
def mirrors(draw):
    kinds = st.sampled_from([None, "one", "few", "some", "most", "all"])
    masks = {"anatomical": draw(kinds), "rsquare": draw(kinds)}
    masks = {name: kind for name, kind in masks.items() if kind is not None}
    assume(masks)
    roi_kinds = st.sampled_from(["empty", "one", "all", "outside", "few", "some", "most"])
    return Spec(
        seed=draw(st.integers(0, 2**32 - 1)),
        sides=draw(st.tuples(*[st.integers(1, 9)] * 3)),
        oblique=draw(st.booleans()),
        masks=masks,
        sessions=draw(sessions()),
        rois=draw(st.dictionaries(st.sampled_from(sorted(ROIS)), roi_kinds)),
        surfaces=draw(st.booleans()),
        ceilings=draw(some_of(CEILINGS)),
        stimuli=draw(st.booleans()),
        further_columns=draw(st.booleans()),
        full_mask=draw(st.booleans()),
    )


# -- what is asked


def check_betas(case: Case, data):
    """`get_betas` with every combination of arguments."""
    files = case.files
    for _ in range(4):
        arguments, voxels = data.draw(voxel_selections(files))
        session = data.draw(
            st.none() | st.sampled_from(files.sessions) | some_of(tuple(files.sessions))
        )
        stimuli = data.draw(st.sampled_from([None, None, "shared", "unique"]))
        arguments["chunks"] = data.draw(st.none() | chunk_dicts(20, len(files.union)))
        asked = [session] if session is None or isinstance(session, str) else session
        ask = {"session": session, "stimuli": stimuli, **arguments}
        if any(voxels(each) is None for each in asked):
            with pytest.raises(NotConvertedError, match="noise ceiling"):
                case.sub.get_betas(**ask)
            continue
        found = case.sub.get_betas(**ask)
        if isinstance(found, dict):
            assert list(found) == list(session)
        for each in asked:
            betas = found[each] if isinstance(found, dict) else found
            check_blocks(betas, arguments["chunks"] or {})
            same_betas(betas, files, trials_of(files, each, stimuli), voxels(each))


def check_sel(case: Case, data):
    """`sel` with every combination of arguments; `dataset` is `sel` of nothing."""
    files = case.files
    everything = np.arange(len(files.trials)), files.union
    same_dataset(case.sub.dataset, files, *everything)
    with xr.open_dataset(case.store, engine="laion_zarr", group=SUB, chunks={}) as opened:
        same_dataset(opened, files, *everything)
    for _ in range(3):
        arguments, voxels = data.draw(voxel_selections(files, with_mask=False))
        if union := data.draw(st.booleans()):
            del arguments["mask_source"]
        ses = data.draw(st.none() | st.sampled_from(files.sessions) | some_of(files.sessions))
        image = data.draw(
            st.none()
            | st.sampled_from(files.trials["label"].tolist())
            | some_of(sorted(set(files.trials["label"])))
        )
        stimuli = data.draw(st.sampled_from([None, None, "shared", "unique"]))
        trial = data.draw(label_selections(np.arange(len(files.trials))))
        voxel = data.draw(label_selections(files.union))
        chunks = data.draw(st.none() | chunk_dicts(20, len(files.union)))
        ask = {"session": ses, "image_name": image, "stimuli": stimuli, "chunks": chunks}
        ask |= {"trial": trial, "voxel": voxel} | arguments
        listed = [ses] if isinstance(ses, str) else ses
        one = listed[0] if listed is not None and len(listed) == 1 else None
        kept = voxels(one)
        if kept is None:
            with pytest.raises(NotConvertedError, match="noise ceiling"):
                case.sub.sel(**ask)
            continue
        if union:
            kept = union_voxels(files, arguments, one)
        trials = trials_of(files, None, stimuli)
        if listed is not None:
            trials = trials[files.trials["session"].isin(listed).to_numpy()[trials]]
        if image is not None:
            names = [image] if isinstance(image, str) else image
            trials = trials[files.trials["label"].isin(names).to_numpy()[trials]]
        found = case.sub.sel(**ask)
        check_blocks(found["betas"], chunks or {})
        same_dataset(
            found,
            files,
            by_labels(trials, np.arange(len(files.trials)), trial),
            by_labels(kept, files.union, voxel),
            listed,
        )


def union_voxels(files: Files, arguments, session):
    """Voxels of the stored union, as `voxel_selections` restricts them."""
    keep = np.isin(np.arange(np.prod(files.shape)), files.union)
    if "roi" in arguments:
        keep &= files.in_rois(arguments["roi"])
    if "nc_threshold" in arguments:
        ceiling = np.nan_to_num(files.ceiling(session), nan=-np.inf)
        keep &= ceiling >= arguments["nc_threshold"]
    return np.flatnonzero(keep)


def by_labels(kept, axis, asked):
    """Labels of `kept` that `asked` selects, in its order; a label slice includes both ends."""
    if asked is None:
        return kept
    if isinstance(asked, slice):
        lo = axis[0] if asked.start is None else asked.start
        hi = axis[-1] if asked.stop is None else asked.stop
        wanted = axis[(axis >= lo) & (axis <= hi)][:: asked.step]
    else:
        wanted = np.atleast_1d(np.asarray(asked, dtype=int))
    return wanted[np.isin(wanted, kept)]


def check_masks(case: Case, data):
    """Brain masks, ROIs, ceilings and coordinates; what is absent is named."""
    files, sub = case.files, case.sub
    for name in ("anatomical", "rsquare"):
        if name not in files.masks:
            other = next(iter(files.masks))
            with pytest.raises(NotConvertedError, match=f"mask_source='{other}'"):
                sub.get_betas(mask_source=name)
            with pytest.raises(NotConvertedError):
                sub.get_brain_mask(name)
            continue
        mask = sub.get_brain_mask(name)
        assert mask.dims == ("grid",)
        same(mask, files.masks[name])
        assert tuple(mask.attrs["shape"]) == files.shape
        np.testing.assert_array_equal(mask.attrs["affine"], np.ravel(files.affine))
        assert sub.get_n_voxels(name) == files.masks[name].sum()
    if (files.root / FULL_MASK).exists():
        image = nib.load(files.root / FULL_MASK)
        mask = sub.get_brain_mask(res=None)
        same(mask, np.asarray(image.dataobj).ravel() != 0)
        assert tuple(mask.attrs["shape"]) == image.shape
        np.testing.assert_array_equal(mask.attrs["affine"], np.ravel(image.affine))
    else:
        with pytest.raises(NotConvertedError):
            sub.get_brain_mask(res=None)
    assert sub.get_available_rois() == sorted(files.rois)
    assert sub.get_available_categories() == sorted({ROIS[roi] for roi in files.rois})
    for category in sub.get_available_categories():
        members = [roi for roi in files.rois if ROIS[roi] == category]
        assert sub.get_available_rois(category) == members
    check_rois(case, data)
    check_ceilings(case, data)
    arguments, voxels = data.draw(voxel_selections(files, with_threshold=False))
    found = sub.get_voxel_coordinates(**arguments)
    assert found.dims == ("voxel", "axis")
    assert found["axis"].values.tolist() == list("xyz")
    same(found["voxel"], voxels(None))
    ijk = np.stack(np.unravel_index(voxels(None), files.shape), axis=1)
    expected = nib.affines.apply_affine(files.affine, ijk)
    np.testing.assert_allclose(found.values, expected, rtol=1e-12, atol=1e-10)


def check_rois(case: Case, data):
    files, sub = case.files, case.sub
    source = data.draw(st.sampled_from(sorted(files.masks)))
    axis = files.axis(source)
    if not files.rois:
        with pytest.raises(NotConvertedError, match="no ROIs"):
            sub.get_roi_mask("EBA", source)
        return
    query = data.draw(roi_queries(files))
    mask = sub.get_roi_mask(query, mask_source=source)
    assert mask.dims == ("voxel",)
    same(mask, files.in_rois(query)[axis])
    same_voxel_labels(mask, files, axis)
    queries = [query] if isinstance(query, str) else query
    masks = sub.get_roi_masks(queries, mask_source=source)
    assert list(masks) == list(dict.fromkeys(queries))
    for each, found in masks.items():
        same(found, files.in_rois(each)[axis])
        same_voxel_labels(found, files, axis)
    check_roi_data(case, data, query, source)


FORMS = {
    "all": {"volume", "func.gii", "label"},
    "volume": {"volume"},
    "nii.gz": {"volume"},
    "gii": {"func.gii", "label"},
    "func.gii": {"func.gii"},
    "label": {"label"},
}


def check_roi_data(case: Case, data, query, source):
    files = case.files
    wanted = data.draw(st.sampled_from(sorted(FORMS)))
    hemi = data.draw(st.sampled_from(["all", "L", "R"]))
    has_surfaces = any(files.root.glob("derivatives/rois/*/*/*.label"))
    if not has_surfaces and "volume" not in FORMS[wanted]:
        with pytest.raises(NotConvertedError, match="surface"):
            case.sub.get_roi_data(query, wanted, hemi, source)
        return
    found = case.sub.get_roi_data(query, format=wanted, hemi=hemi, mask_source=source)
    assert set(found) == set(files.resolve(query))
    for roi, forms in found.items():
        assert ("volume" in forms) == ("volume" in FORMS[wanted])
        assert ("gii" in forms) == (has_surfaces and FORMS[wanted] != {"volume"})
        if "volume" in forms:
            same(forms["volume"], files.rois[roi][files.axis(source)])
        for side, surface in forms.get("gii", {}).items():
            assert set(surface) == FORMS[wanted] - {"volume"}
            stem = f"derivatives/rois/{SUB}/{ROIS[roi]}/{SUB}_{side}_space-fsnative_label-{roi}"
            if "func.gii" in surface:
                image = nib.load(files.root / f"{stem}_mask.func.gii")
                same(surface["func.gii"], image.darrays[0].data != 0)
            if "label" in surface:
                rows = (files.root / f"{stem}_mask.label").read_text().splitlines()[2:]
                assert surface["label"].tolist() == [int(row.split()[0]) for row in rows]
        if "gii" in forms:
            assert set(forms["gii"]) == (
                {"hemi-L", "hemi-R"} if hemi == "all" else {f"hemi-{hemi}"}
            )


def check_ceilings(case: Case, data):
    files, sub = case.files, case.sub
    arguments, voxels = data.draw(voxel_selections(files, with_threshold=False))
    kept = voxels(None)
    for desc in CEILINGS:
        if desc not in files.ceilings:
            with pytest.raises(NotConvertedError, match=desc):
                sub.get_noise_ceiling(desc=desc, **arguments)
    there = [*files.ceilings]
    for desc, found in sub.get_noise_ceiling(desc=there, **arguments).items():
        same(found, files.ceilings[desc][kept])
    for desc in there[:1]:
        found = sub.get_noise_ceiling(desc=desc, **arguments)
        assert found.dims == ("voxel",)
        assert found.attrs["units"] == "percent"
        same(found, files.ceilings[desc][kept])
        same_voxel_labels(found, files, kept)
    maps = files.maps["session_noise_ceiling"]
    for session in files.sessions:
        if session in maps:
            found = sub.get_noise_ceiling(session=session, **arguments)
            same(found, maps[session][kept])
            same_voxel_labels(found, files, kept)
        else:
            with pytest.raises(NotConvertedError, match=session):
                sub.get_noise_ceiling(session=session, **arguments)
    assert list(sub.get_noise_ceiling(session=[*maps], **arguments)) == [*maps]


def check_trials(case: Case, data):
    """Trial tables, metadata and what the stimuli are."""
    files, sub = case.files, case.sub
    assert sub.subject_id == SUB
    assert sub.get_sessions() == files.sessions
    metadata, expected = sub.metadata, files.trials
    assert isinstance(metadata.index, pd.RangeIndex)
    assert set(metadata.columns) == set(expected.columns)
    for name in expected.columns:
        np.testing.assert_array_equal(metadata[name], expected[name], err_msg=name)
    for session in files.sessions:
        found = sub.get_trial_info(session)
        pd.testing.assert_frame_equal(found, files.tsv(session))
        assert isinstance(found.index, pd.RangeIndex)
    asked = data.draw(some_of(files.sessions))
    assert list(sub.get_trial_info(asked)) == list(asked)
    assert not sub.has_stimuli()  # the pictures are not there
    if (path := files.root / METADATA).exists():
        table = pd.read_csv(path)
        pd.testing.assert_frame_equal(sub.get_stimulus_metadata(), table)
        assert sub.get_n_stimuli() == len(table)
        assert sub.get_n_stimuli("shared") == (table["unique_or_shared"] == "shared").sum()
    else:
        with pytest.raises(FileNotFoundError, match="metadata"):
            sub.get_stimulus_metadata()


def check_nifti(case: Case, data):
    """Values go back to the place that they came from, in whatever order they are."""
    files, sub = case.files, case.sub
    arguments, voxels = data.draw(voxel_selections(files, with_threshold=False))
    kept = voxels(None)
    suffix = data.draw(st.sampled_from([".nii", ".nii.gz"]))
    path = files.root / f"out{suffix}"
    session = data.draw(st.sampled_from(files.sessions))
    betas = sub.get_betas(session=session, **arguments)
    form = data.draw(st.sampled_from(["lazy", "permuted", "transposed", "array", "float64"]))
    order = np.array(data.draw(st.permutations(range(len(kept)))), dtype=int)
    values = {
        "lazy": lambda: betas,
        "permuted": lambda: betas.isel(voxel=order),
        "transposed": lambda: betas.isel(voxel=order[::2]).T,
        "array": lambda: betas.values,
        "float64": lambda: betas.values.astype(float),
    }[form]()
    placed = kept[order[::2]] if form == "transposed" else kept
    flat_only = data.draw(st.booleans())
    if flat_only:
        values = values.isel(trial=-1) if isinstance(values, xr.DataArray) else values[-1]
    assert sub.to_nifti(values, path, **arguments) == path
    rows = trials_of(files, session)
    expected = np.zeros((len(rows), np.prod(files.shape)), np.float32)
    expected[:, placed] = files.betas[np.ix_(rows, placed)]
    image = nib.load(path)
    assert image.get_data_dtype() == np.float32
    np.testing.assert_allclose(image.affine, files.affine, atol=1e-5)
    volumes = np.asarray(image.dataobj)
    if flat_only:
        same(volumes, expected[-1].reshape(files.shape))
    else:
        same(volumes, np.moveaxis(expected.reshape(len(rows), *files.shape), 0, -1))
    mask = next(iter(files.masks))
    sub.to_nifti(sub.get_brain_mask(mask).values[files.axis(mask)], path, mask_source=mask)
    same(nib.load(path).get_fdata() != 0, files.masks[mask].reshape(files.shape))


def check_verify(case: Case, data):
    """The package's own proof finds nothing to complain of."""
    mirror = case.files.root
    with warnings.catch_warnings():  # see test_verify_is_silent_about_…
        warnings.filterwarnings("ignore", "loadtxt", UserWarning)
        warnings.filterwarnings("ignore", "overflow", RuntimeWarning)
        report = verify(case.store, mirror, deep=True, progress=False)
    assert not report.notes
    assert report.n_values >= case.files.betas.shape[0] * len(case.files.union)


CHECKS = [
    check_betas,
    check_sel,
    check_masks,
    check_trials,
    check_nifti,
    check_verify,
]


@pytest.mark.minutes
@examples(18, 400)
@given(spec=mirrors(), data=st.data())
def test_answers_are_what_the_files_say(tally, spec, data):
    with converted(spec) as case:
        for check in CHECKS:  # together: converting takes longer than asking
            check(case, data)
    tally("random mirrors converted and asked")


# -- what random mirrors seldom have


@pytest.mark.parametrize("of_every_image", [True, False])
def test_integer_columns_of_the_stimuli(tmp_path, of_every_image):
    """Columns stay integers along the trials, whether or not some trials have no value."""
    root, store = tmp_path / "mirror", tmp_path / "s.zarr"
    write_mirror(plain_spec(), root)
    names = LABELS if of_every_image else LABELS[1:]
    table = pd.DataFrame({"image_name": names, "width": range(500, 500 + len(names))})
    write_table(root / METADATA, table, ",")
    convert(root, store, n_workers=1, progress=False)
    labels = Files(root).trials["label"]
    assert LABELS[0] in labels.tolist()
    expected = labels.map(dict(zip(table["image_name"], table["width"], strict=True)))
    metadata = load_subject(SUB, store).metadata
    np.testing.assert_array_equal(metadata["width"], expected)
    assert np.issubdtype(metadata["width"].dtype, np.integer) == of_every_image


def test_float64_mask_is_not_rounded_first(tmp_path):
    """A mask voxel is in when its value is not 0, be it too small for float32."""
    root, values = tmp_path / "mirror", np.zeros((4, 6, 5))
    write_mirror(plain_spec(), root)
    values[1, 2:, 3] = [1e-60, -1e-300, 5, 0]
    affine = nib.load(root / MASK_FILES["anatomical"]).affine
    write_nifti(root / MASK_FILES["rsquare"], values, affine, "<f8")
    convert(root, tmp_path / "s.zarr", n_workers=1, progress=False)
    mask = load_subject(SUB, tmp_path / "s.zarr").get_brain_mask("rsquare")
    same(mask, values.ravel() != 0)


def test_masks_without_a_voxel(tmp_path):
    """One mask without voxels gives an empty voxel axis; two such masks are a source error."""
    root, empty = tmp_path / "mirror", np.zeros((4, 6, 5))
    write_mirror(plain_spec(), root)
    affine = nib.load(root / MASK_FILES["anatomical"]).affine
    write_nifti(root / MASK_FILES["anatomical"], empty, affine, "u1")
    convert(root, tmp_path / "one.zarr", n_workers=1, progress=False)
    sub = load_subject(SUB, tmp_path / "one.zarr")
    assert sub.get_n_voxels() == 0
    assert sub.get_betas().values.shape == (8, 0)
    rsquare = np.flatnonzero(Files(root).masks["rsquare"])
    same(sub.get_betas(mask_source="rsquare").values, Files(root).betas[:, rsquare])
    write_nifti(root / MASK_FILES["rsquare"], empty, affine)
    with pytest.raises(SourceError, match="mask"):
        convert(root, tmp_path / "two.zarr", n_workers=1, progress=False)


TAKEN = [
    "trial",
    "voxel",
    "betas",
    "betas_chunks",
    "image_name",
    "i",
    "x",
    "category",
    "in_rsquare",
]


@pytest.mark.parametrize("name", [*TAKEN, "roi", "nc", "session_id", "repetition", "a/b"])
def test_further_columns_hide_nothing(tmp_path, name):
    """A column of the trial table whose name the store itself needs: refused by name, or kept."""
    root, store = tmp_path / "mirror", tmp_path / "s.zarr"
    write_mirror(plain_spec(), root)
    for path in root.glob(f"{GLM}/*/func/*_trials.tsv"):
        table = pd.read_csv(path, sep="\t")
        table[name] = range(100, 100 + len(table))
        write_table(path, table, "\t")
    try:
        convert(root, store, n_workers=1, progress=False)
    except SourceError as error:
        assert name in str(error)  # noqa: PT017
        return
    files, sub = Files(root), load_subject(SUB, store)
    betas = sub.get_betas(roi="EBA", mask_source="rsquare")
    same(betas.values, files.betas[:, files.masks["rsquare"] & files.rois["EBA"]])
    assert betas["trial"].values.tolist() == list(range(8))
    assert betas["repetition"].values.tolist() == files.trials["repetition"].tolist()
    assert betas["image_name"].values.tolist() == files.trials["label"].tolist()
    # A name of an image stays text, even where all of them look like numbers.
    assert [int(value) for value in sub.get_trial_info("ses-04")[name]] == [100, 101, 102]
    # Nor to those who read the store by themselves.
    group = zarr.open_group(store / SUB, mode="r")
    stored = group["voxels/voxel"][:]
    assert group["trials/trial"][:].tolist() == list(range(8))
    same(group["ses-04/voxel"][:], stored)
    same(group["ses-04/betas"][:].T, files.betas[5:, stored])


# -- the bytes of a store


def check_bytes(spec: Spec, order):
    """A mirror gives the same store if converted again, or session by session in any order."""
    with converted(spec) as case:
        once = tree(case.store)
        mirror = case.files.root
        report = convert(mirror, case.store, n_workers=1, progress=False)
        assert not report.converted
        assert tree(case.store) == once
        for name, batches in {
            "again": [None],
            "reversed": [[s.name for s in reversed(spec.sessions)]],
            "one by one": [[spec.sessions[n].name] for n in order],
        }.items():
            other = case.store.with_name(f"{name}.zarr")
            for sessions in batches:
                convert(mirror, other, sessions=sessions, n_workers=1, progress=False)
            found = tree(other)
            assert sorted(found) == sorted(once), name
            assert [key for key in once if found[key] != once[key]] == [], name


@st.composite
def orders(draw):
    spec = draw(mirrors())
    return spec, draw(st.permutations(range(len(spec.sessions))))


@examples(3, 60)
@given(asked=orders())
def test_store_depends_on_its_sources_alone(tally, asked):
    check_bytes(*asked)
    tally("random mirrors converted in any order")


def test_workers_do_not_change_the_store(crowd, tmp_path):
    """Sessions in processes of their own, in whatever order they end."""
    assert len(crowd.files.sessions) > 1
    convert(crowd.files.root, tmp_path / "s.zarr", n_workers=2, progress=False)
    assert tree(tmp_path / "s.zarr") == tree(crowd.store)
