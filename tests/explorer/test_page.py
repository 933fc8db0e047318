"""The explorer's page in a browser: each thing it does; its numbers are laion_zarr's."""

from __future__ import annotations

import re

import numpy as np
import pytest

from laion_zarr import load_stimuli, load_subject
from laion_zarr.splits import load_all_splits

ROI = "FFA1"


@pytest.fixture(scope="module")
def sub(with_splits):
    return load_subject("sub-01", with_splits)


@pytest.fixture(scope="module")
def stim(with_splits):
    return load_stimuli(with_splits)


def expected(sub, **selection):
    """Mean over voxels of z-scored betas, averaged per image, in the order of images."""
    betas = sub.get_betas(**selection).load()
    scored = betas.groupby("session").map(lambda b: (b - b.mean("trial")) / b.std("trial"))
    means = scored.groupby("image_name").mean("trial")
    return means.mean("voxel") if "voxel" in means.dims else means


def choose_region(page, name):
    field = page.panel("responses").get_by_role("combobox")
    field.fill(name)
    field.press("Enter")


def fact(page, panel, term):
    """What a panel says of something."""
    found = page.panel(panel).locator(f"dd[data-readout='{term}'], dd[data-fact='{term}']")
    return found.inner_text()


def thumbnails(page, group):
    """Names of the pictures in a row, and what stands below them."""
    row = page.page.get_by_role("group", name=group, exact=True)
    names = [one.get_attribute("data-picture") for one in row.locator(".thumbnail").all()]
    return names, row.locator(".note").all_inner_texts()


def test_responses_of_a_region(page, address, sub):
    page.open(address)
    choose_region(page, ROI)
    found = page.responses()
    wanted = expected(sub, roi=ROI)
    assert found["images"] == wanted["image_name"].values.tolist()
    np.testing.assert_allclose(np.array(found["mean"], float), wanted.values, atol=1e-5)
    assert found["nVoxels"] == int(sub.get_betas(roi=ROI).sizes["voxel"])
    counts = sub.metadata["image_name"].value_counts()
    assert found["counts"] == [counts[name] for name in found["images"]]
    best = wanted.sortby(wanted, ascending=False)
    page.until(lambda: thumbnails(page, "Strongest")[0], "pictures are shown")
    names, notes = thumbnails(page, "Strongest")
    assert names == best["image_name"].values[:8].tolist()
    shown = [float(note.replace("−", "-")) for note in notes]
    np.testing.assert_allclose(shown, best.values[:8], atol=0.0051)
    weakest = best["image_name"].values[::-1][:8].tolist()
    assert thumbnails(page, "Weakest")[0] == weakest
    assert page.problems() == []


def test_a_category_of_no_region_is_told(page, address):
    page.open(address)
    choose_region(page, "FFA")
    page.says("responses", "No region is named FFA. Similar: FFA1")


def test_standard_error(page, address, sub):
    page.open(f"{address}#region={ROI}&of=region")
    found = page.responses()
    betas = sub.get_betas(roi=ROI).load()
    scored = betas.groupby("session").map(lambda b: (b - b.mean("trial")) / b.std("trial"))
    trials = scored.mean("voxel").groupby("image_name")
    rest = trials - trials.mean()
    n = np.array(found["counts"])
    variances = (rest**2).groupby("image_name").sum().values[n > 1] / (n[n > 1] - 1)
    noise = np.sqrt(variances.mean())
    np.testing.assert_allclose(found["error"], noise / np.sqrt(n), rtol=1e-5)


def test_a_voxel_by_click(page, address, sub):
    page.open(address)
    box = page.page.locator("section.brain canvas").first.bounding_box()
    x, y = box["x"] + 0.27 * box["width"], box["y"] + 0.8 * box["height"]
    page.page.mouse.click(x, y)
    page.until(lambda: page.ask("explorer.state.view.of") == "voxel", "a voxel is chosen")
    label = int(page.ask("explorer.state.view.voxel"))
    assert fact(page, "brain", "Voxel") == str(label)
    found = page.responses()
    dataset = sub.dataset.sel(voxel=label)
    betas = dataset["betas"].load()
    scored = betas.groupby("session").map(lambda b: (b - b.mean()) / b.std())
    wanted = scored.groupby("image_name").mean()
    np.testing.assert_allclose(np.array(found["mean"], float), wanted.values, atol=1e-5)
    place = [
        float(v) for v in re.findall(r"-?[\d.]+", fact(page, "brain", "Position").replace("−", "-"))
    ]
    np.testing.assert_allclose(place, [float(dataset[axis]) for axis in "xyz"], atol=0.051)
    mask = dataset["roi_mask"]
    rois = mask["roi"].values[mask.values].tolist()
    assert fact(page, "brain", "ROIs") == (", ".join(rois) or "none")
    ceiling = float(dataset["noise_ceiling"].sel(nc="NoiseceilingAllrep"))
    assert fact(page, "brain", "Noise ceiling") == f"{ceiling:.2f} percent"


def test_a_voxel_by_keys_and_by_name(page, address, sub):
    page.open(address)
    labels = sub.dataset["voxel"].values[sub.dataset["roi_mask"].sel(roi=ROI).values]
    field = page.panel("brain").get_by_label("Go to")
    field.fill(str(labels[0]))
    field.press("Enter")
    page.until(lambda: page.ask("explorer.state.view.voxel") == str(labels[0]), "it is chosen")
    before = sub.dataset.sel(voxel=labels[0])
    page.page.locator("section.brain canvas").first.focus()
    page.page.keyboard.press("ArrowUp")
    page.until(lambda: page.ask("explorer.state.view.voxel") != str(labels[0]), "it moves")
    after = sub.dataset.sel(voxel=int(page.ask("explorer.state.view.voxel")))
    assert (float(after["x"]), float(after["y"])) == (float(before["x"]), float(before["y"]))
    assert float(after["z"]) > float(before["z"])
    field.fill(", ".join(str(float(before[axis])) for axis in "xyz"))
    field.press("Enter")
    page.until(lambda: page.ask("explorer.state.view.voxel") == str(labels[0]), "by its place")
    field.fill("999999999")
    field.press("Enter")
    page.says("brain", "No voxel is stored there")


def overlay_values(page):
    """Values that lie over the brain, by voxel label."""
    code = (
        "(({subject}) => explorer.context.shown &&"
        " [[...subject.voxel], [...explorer.context.shown]])(explorer.context)"
    )
    labels, values = page.until(lambda: page.ask(code), "an overlay")
    return dict(zip(labels, np.array(values, float), strict=True))


def same_overlay(page, wanted):
    shown = overlay_values(page)
    found = np.array([shown[label] for label in wanted["voxel"].values])
    np.testing.assert_array_equal(found.astype(np.float32), wanted.values)


def test_overlays(page, address, sub):
    page.open(address)
    choice = page.panel("brain").get_by_label("Overlay")
    groups = choice.locator("optgroup").all()
    assert len(groups) >= 4
    ceiling = sub.dataset["noise_ceiling"].sel(nc="NoiseceilingAllrep")
    same_overlay(page, ceiling)
    choice.select_option("ceiling/Noiseceiling4rep")
    page.says("brain", "Noise ceiling, 4rep")
    same_overlay(page, sub.dataset["noise_ceiling"].sel(nc="Noiseceiling4rep"))
    choice.select_option("map/ses-02/r2")
    legend = page.panel("brain").locator(".legend")
    page.until(lambda: "R² of the GLM, ses-02" in legend.inner_text(), "R²")
    same_overlay(page, sub.dataset["r2"].sel(session_id="ses-02"))
    table = sub.get_available_localizers()
    row = table[(table["stat"] == "z") & (table["run"] == 0) & (table["res"] == "1pt8")].iloc[0]
    choice.select_option(f"localizer/{row['task']}/{row['session']}/{row['contrast']}")
    page.until(lambda: row["contrast"] in legend.inner_text(), "a localizer")
    localizer = f"{row['task']}:{row['contrast']}"
    same_overlay(page, sub.dataset["localizer_z"].sel(localizer=localizer))
    assert page.problems() == []


def test_localizers_on_surfaces_are_those_of_the_vertices(page, address, sub):
    row = sub.get_available_localizers().query("space == 'fsnative' and stat == 'z'").iloc[0]
    contrast = f"{row['task']}/{row['session']}/{row['contrast']}"
    page.open(f"{address}#view=pial&overlay=localizer/{contrast}")
    code = "(({vertices}) => vertices && [[...vertices.L], [...vertices.R]])(explorer.context)"
    shown = page.until(lambda: page.ask(code), "values of the vertices")
    wanted = sub.get_localizer_surface(row["task"], row["contrast"])
    for hemi, values in zip("LR", shown, strict=True):
        np.testing.assert_array_equal(np.array(values, "f4"), wanted[hemi])
    page.says("brain", "Values of the vertices, as the store has them.")
    page.panel("brain").get_by_label("Overlay").select_option("ceiling/NoiseceilingAllrep")
    page.says("brain", "Each vertex has the value of its voxel.")
    assert page.ask("explorer.context.vertices ?? null") is None
    assert page.problems() == []


def test_threshold_colours_and_views(page, address):
    page.open(f"{address}#region={ROI}&of=region")
    brain = page.panel("brain")
    brain.get_by_label("From", exact=True).fill("35")
    brain.get_by_label("to", exact=True).fill("60")
    brain.get_by_label("Colours").select_option("cividis")
    brain.get_by_label("Region").select_option("filled")
    page.until(lambda: "35" in brain.locator(".legend").inner_text(), "the legend follows")
    assert "60 %" in " ".join(brain.locator(".legend").inner_text().split())
    pictures = []
    for view in ("slices", "volume", "pial", "inflated"):
        brain.get_by_label("View").select_option(view)
        page.until(lambda v=view: page.ask("explorer.state.view.view") == v, "the view is chosen")
        page.page.wait_for_timeout(1500)
        pictures.append(brain.locator(".canvases").screenshot())
        assert page.problems() == []
    assert len(set(pictures)) == 4
    turned = brain.locator("canvas").last
    turned.focus()
    page.page.keyboard.press("ArrowLeft")
    page.page.wait_for_timeout(200)
    assert brain.locator(".canvases").screenshot() != pictures[-1]
    kept = page.ask("location.hash")
    for part in ("low=35", "high=60", "colours=cividis", "style=filled", "view=inflated"):
        assert part in kept


def test_a_picture(page, address, sub, stim, with_splits):
    image = stim.segmentations.images()[0]
    page.open(f"{address}#region={ROI}&of=region&picture={image}")
    page.says("picture", "Seen by")
    shown = page.panel("picture").locator(".frame img")
    width, height = page.ask(
        "(({naturalWidth, naturalHeight}) => [naturalWidth, naturalHeight])"
        "(document.querySelector('.frame img'))"
    )
    assert (width, height) == stim.images.get(image).size
    assert shown.get_attribute("alt") == image
    captions = page.panel("picture").locator(".captions li").all_inner_texts()
    table = stim.captions.get(image)
    told = [f"{s} {c}" for s, c in zip(table["source"], table["caption"], strict=True)]
    assert sorted(captions) == sorted(told)
    counts = {s: load_subject(s, with_splits).metadata["image_name"] for s in ("sub-01", "sub-03")}
    seen = fact(page, "picture", "Seen by")
    for subject, names in counts.items():
        n = int((names == image).sum())
        assert (f"{subject} {n} time" in seen) == (n > 0)
    responses = page.responses()
    rank = [responses["images"][code] for code in responses["order"]].index(image) + 1
    page.says("picture", f"place {rank} of {len(responses['order'])}")
    assert "data use agreement" in page.panel("picture").inner_text()


def test_masks_are_switched_on_and_off(page, address, stim):
    image = stim.segmentations.images()[0]
    page.open(f"{address}#picture={image}")
    page.says("picture", "Seen by")
    boxes = page.panel("picture").locator(".mask")
    rows = stim.segmentations.metadata
    rows = rows[(rows["image_name"] == image) & (rows["localized"] == 1)]
    assert boxes.all_inner_texts() == rows["noun"].tolist()
    painted = (
        "(c => c.width && c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
        ".filter((value, n) => n % 4 === 3 && value > 0).length)"
        "(document.querySelector('.frame canvas'))"
    )
    noun = rows["noun"].iloc[0]
    n_pixels = int(stim.segmentations.get(image, noun).values.sum())
    boxes.first.locator("input").check()
    page.until(lambda: page.ask(painted) == n_pixels, f"{n_pixels} pixels of {noun}")
    boxes.first.locator("input").uncheck()
    page.until(lambda: page.ask(painted) == 0, "no mask")


def test_sides_of_splits(page, address, stim, with_splits):
    image = stim.segmentations.images()[0]
    page.open(f"{address}#picture={image}")
    page.says("picture", "Train and test splits")
    page.page.get_by_text("Train and test splits").click()
    lines = page.panel("picture").locator("table.sides tbody tr").all()
    shown = {tuple(line.locator("th, td").all_inner_texts()) for line in lines}
    assert shown
    for pool, train, test in shown:
        splits = load_all_splits(pool, with_splits)
        for side, told in (("train", train), ("test", test)):
            names = set(told.split(", ")) - {""}
            assert names <= set(splits)
            for name in names:
                sides = [getattr(one, f"{side}_ids") for one in splits[name].variants]
                assert any(image in ids for ids in sides), (pool, name, side)


def test_response_to_a_picture_on_the_brain(page, address, sub):
    page.open(f"{address}#region={ROI}&of=region")
    page.until(lambda: thumbnails(page, "Strongest")[0], "pictures are shown")
    page.page.get_by_role("group", name="Strongest").locator(".thumbnail").first.click()
    page.says("picture", "Seen by")
    image = page.ask("explorer.state.view.picture")
    page.page.get_by_role("button", name="Show its response on the brain").click()
    page.says("brain", f"Shown for {ROI} alone.")
    page.says("brain", "no averages of all images")
    betas = sub.get_image_betas(roi=ROI).load()
    wanted = betas.sel(image=image)
    shown = overlay_values(page)
    found = np.array([shown.pop(label) for label in wanted["voxel"].values])
    np.testing.assert_allclose(found, wanted.values, atol=1e-5)
    assert np.isnan(list(shown.values())).all()


def test_nearest_pictures(page, address, stim):
    image = stim.segmentations.images()[0]
    page.open(f"{address}#picture={image}")
    page.says("picture", "Nearest pictures")
    page.panel("picture").get_by_label("by").select_option("SigLIP2")
    page.page.get_by_role("button", name=re.compile("^Find \\(reads")).click()
    page.until(lambda: thumbnails(page, "Nearest pictures")[0], "pictures are shown")
    names, notes = thumbnails(page, "Nearest pictures")
    table = stim.embeddings["SigLIP2"].load()
    vectors = table.values.astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    images = table["image"].values
    similar = vectors @ vectors[images.tolist().index(image)]
    order = [n for n in np.argsort(-similar) if images[n] != image and np.isfinite(similar[n])]
    assert names == images[order[:8]].tolist()
    np.testing.assert_allclose([float(n) for n in notes], similar[order[:8]], atol=0.00051)


def test_words(page, address, sub, stim):
    page.open(f"{address}#region={ROI}&of=region")
    page.responses()
    page.page.get_by_text("Words of its pictures").click()
    page.says("responses", "Words of captions")
    wanted = expected(sub, roi=ROI)
    means = dict(zip(wanted["image_name"].values, wanted.values, strict=True))
    captions = stim.captions.metadata
    images = {name for name in captions["image_name"] if name in means}
    tables = page.panel("responses").locator("details table")
    lines = tables.last.locator("tbody tr").all()
    assert lines
    for line in lines:
        word, n, difference, t = line.locator("th, td").all_inner_texts()
        pattern = re.compile(rf"(?<![a-z'-]){re.escape(word)}(?![a-z'-])")
        found = captions["caption"].str.lower().str.contains(pattern)
        own = {name for name in captions["image_name"][found] if name in means}
        inside = np.array([means[name] for name in own])
        others = np.array([means[name] for name in images - own])
        assert int(n) == len(inside)
        apart = inside.mean() - others.mean()
        error = np.sqrt(inside.var(ddof=1) / len(inside) + others.var(ddof=1) / len(others))
        assert float(difference) == pytest.approx(apart, abs=0.0051)
        assert float(t) == pytest.approx(apart / error, abs=0.051)


def test_place_among_localizers(page, address, sub):
    page.open(f"{address}#region={ROI}&of=region")
    page.responses()
    page.page.get_by_text("Localizer contrasts").click()
    page.says("responses", "Above … of brain voxels")
    maps = sub.dataset["localizer_z"].load()
    brain = sub.dataset["in_anatomical"].values
    inside = sub.dataset["roi_mask"].sel(roi=ROI).values & brain
    lines = page.panel("responses").locator("details[open] tbody tr").all()
    assert len(lines) == maps.sizes["localizer"]
    for line in lines:
        name, z, share = (
            text.replace("−", "-") for text in line.locator("th, td").all_inner_texts()
        )
        values = maps.sel(localizer=name.replace(": ", ":")).values
        mean = np.nanmean(values[inside].astype(float))
        assert float(z) == pytest.approx(mean, abs=0.0051)
        there = values[brain & np.isfinite(values)]
        assert float(share.rstrip(" %")) == pytest.approx(100 * (there < mean).mean(), abs=0.051)


def test_search(page, address, stim):
    page.open(address)
    field = page.panel("picture").get_by_role("searchbox")
    noun = stim.segmentations.metadata["noun"].iloc[0]
    word = next(w for w in stim.captions.metadata["caption"].iloc[0].lower().split() if len(w) > 3)
    name = stim.segmentations.images()[0]
    for text, why in ((noun, "noun"), (word.strip(".,"), "caption"), (name, "name")):
        field.fill(text)
        field.press("Enter")
        page.until(lambda w=why: w in thumbnails(page, "Pictures found")[1], f"{text} as {why}")
    assert thumbnails(page, "Pictures found")[0] == [name]
    field.fill("no such thing")
    field.press("Enter")
    page.says("picture", "0 pictures")


def test_the_view_is_in_the_address(page, address, chromium):
    page.open(address)
    choose_region(page, ROI)
    page.until(lambda: thumbnails(page, "Strongest")[0], "pictures are shown")
    page.page.get_by_role("group", name="Strongest").locator(".thumbnail").nth(1).click()
    page.says("picture", "Seen by")
    image = page.ask("explorer.state.view.picture")
    sent = page.page.url
    page.page.go_back()
    page.until(lambda: page.ask("explorer.state.view.picture") == "", "back: no picture")
    page.says("picture", "Click on a picture")
    page.page.go_back()
    page.until(lambda: page.ask("explorer.state.view.region") == "", "back: no region")
    page.page.go_forward()
    page.page.go_forward()
    page.until(lambda: page.ask("explorer.state.view.picture") == image, "forward")
    page.says("picture", image)
    page.open(sent)
    page.says("responses", f"{ROI} (")
    page.says("picture", image)
    assert page.ask("location.hash") == sent[sent.index("#") :]


def test_another_subject(page, address, with_splits):
    page.open(f"{address}#region={ROI}&of=region")
    page.responses()
    page.page.get_by_label("Subject").select_option("sub-03")
    other = load_subject("sub-03", with_splits)
    n = other.get_betas(roi=ROI).sizes["voxel"]
    page.until(lambda: page.ask("explorer.context.subject.name") == "sub-03", "another subject")
    page.until(lambda: page.responses()["nVoxels"] == n, "its region")
    wanted = expected(other, roi=ROI)
    np.testing.assert_allclose(np.array(page.responses()["mean"], float), wanted, atol=1e-5)


def test_keys_alone_reach_everything(page, address, stim):
    image = stim.segmentations.images()[0]
    page.open(f"{address}#region={ROI}&of=region&picture={image}")
    page.says("picture", "Seen by")
    page.until(lambda: thumbnails(page, "Strongest")[0], "pictures are shown")
    controls = (
        "[...document.querySelectorAll('#explorer :is(input, select, button, summary, canvas,"
        " [role=slider])')].filter(e => e.checkVisibility() && !e.closest('.frame canvas')"
        " && !e.matches('.masks'))"
    )
    n = page.ask(f"{controls}.length")
    reached = set()
    for _ in range(n + 5):
        page.page.keyboard.press("Tab")
        reached.add(page.ask(f"{controls}.indexOf(document.activeElement)"))
    assert reached >= set(range(n))
    unnamed = page.ask(
        f"{controls}.filter(e => !(e.ariaLabel || e.textContent.trim() || e.labels?.length"
        " || e.getAttribute('aria-label') || e.querySelector('img'))).map(e => e.outerHTML)"
    )
    assert unnamed == []


def test_the_curve_by_keys(page, address):
    page.open(f"{address}#region={ROI}&of=region")
    found = page.responses()
    curve = page.page.get_by_role("slider")
    curve.focus()
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        page.page.keyboard.press(key)
    third = found["images"][found["order"][2]]
    page.until(lambda: page.ask("explorer.state.view.picture") == third, "the third image")
    assert curve.get_attribute("aria-valuetext").startswith(f"3. {third}")
