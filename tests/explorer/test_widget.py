"""The explorer in a notebook: what the kernel answers, and the page beside it."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import xarray as xr
from explorer_server import exploring

from laion_zarr import explore, load_subject
from laion_zarr.errors import NotConvertedError

pytest.importorskip("anywidget")


@pytest.fixture
def asked(store):
    """A widget, and a function that asks it as the page does."""
    widget = explore(store)
    sent = []
    widget.send = lambda content, buffers=None: sent.append((content, buffers))

    def ask(key, span=None):
        widget._answer(widget, {"id": 7, "key": key, "span": span}, [])
        return sent.pop()

    return widget, ask


def test_kernel_answers_with_objects_and_ranges(asked, store):
    _, ask = asked
    data = (store / "zarr.json").read_bytes()
    assert ask("zarr.json") == ({"id": 7}, [data])
    assert ask("zarr.json", {"offset": 4, "length": 9}) == ({"id": 7}, [data[4:13]])
    assert ask("zarr.json", {"suffixLength": 5}) == ({"id": 7}, [data[-5:]])


def test_kernel_says_what_is_missing_or_refused(copy_of, store):
    own = copy_of(store)
    (own / "leaves").symlink_to(own.parent)
    widget = explore(own)
    sent = []
    widget.send = lambda content, buffers=None: sent.append(content)
    for key in ("sub-01/none", "../secret", "leaves"):
        widget._answer(widget, {"id": 1, "key": key, "span": None}, [])
    assert [set(content) for content in sent] == [{"id", "error"}] * 3
    assert "is missing" in sent[0]["error"]
    assert "is missing" in sent[1]["error"]
    assert "leaves is a link to" in sent[2]["error"]
    assert "nothing outside of a store is read" in sent[2]["error"]


def test_overlay_is_sent_by_label(store):
    sub = load_subject("sub-03", store)
    widget = sub.explore()
    assert widget.subject == "sub-03"
    values = sub.get_noise_ceiling(session="ses-01")
    widget.overlay = values
    told = widget._overlay
    np.testing.assert_array_equal(np.frombuffer(told["labels"], "<i4"), values["voxel"])
    np.testing.assert_array_equal(np.frombuffer(told["values"], "<f4"), values)
    assert told["units"] == "percent"
    widget.overlay = None
    assert widget._overlay is None


@pytest.mark.parametrize(
    "wrong", [np.zeros(3), xr.DataArray(np.zeros((2, 3)), dims=("image", "voxel"))]
)
def test_overlay_must_be_along_voxels(store, wrong):
    with pytest.raises(ValueError, match=r"must be a DataArray of dims \('voxel',\), got"):
        explore(store).overlay = wrong
    with pytest.raises(ValueError, match="labels as a coordinate"):
        explore(store).overlay = xr.DataArray(np.zeros(3), dims="voxel")


def test_no_such_store_or_subject(store, tmp_path):
    with pytest.raises(NotConvertedError, match="There is no laion_zarr store"):
        explore(tmp_path / "none")
    with pytest.raises(NotConvertedError, match=r"sub-77 is in the store .* holds sub-01, sub-03"):
        explore(store, "sub-77")


def test_without_anywidget(store, monkeypatch):
    real = builtins.__import__

    def absent(name, *more):
        if name == "laion_zarr.explorer.widget":
            raise ImportError("No module named 'anywidget'")
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"pip install .laion-zarr\[explore\]"):
        explore(store)


# The page's half, with a model that reads over HTTP as the kernel would.
MODEL = """async ([subject, labels, values]) => {
  const { default: widget } = await import('./explorer.js');
  const traits = { subject, voxel: null, picture: '', _store: 'the store', _overlay: null };
  const listeners = {};
  const emit = (event, ...values) => (listeners[event] ?? []).forEach((one) => one(...values));
  const send = async ({ id, key, span }) => {
    const range = span && ('offset' in span
      ? `bytes=${span.offset}-${span.offset + span.length - 1}` : `bytes=-${span.suffixLength}`);
    const headers = range ? { Range: range } : {};
    const answer = await fetch(`laion-fmri.zarr/${key}`, { headers });
    if (!answer.ok) return emit('msg:custom', { id, error: `${key}: none` }, []);
    emit('msg:custom', { id }, [new DataView(await answer.arrayBuffer())]);
  };
  const set = (name, value) => {
    if (traits[name] === value) return;
    traits[name] = value;
    emit(`change:${name}`);
  };
  const model = {
    send, set, get: (name) => traits[name], save_changes: () => {},
    on: (event, listener) => (listeners[event] ??= []).push(listener),
  };
  const bytes = (array) => new DataView(array.buffer);
  const overlay = {
    name: 'my values', units: 'apples',
    labels: bytes(Int32Array.from(labels)), values: bytes(Float32Array.from(values)),
  };
  const el = document.createElement('div');
  el.id = 'explorer';
  document.body.replaceChildren(el);
  await widget.render({ model, el });
  window.notebook = { traits, set, overlay };
}"""


def test_page_in_step_with_the_kernel(page, with_splits):
    sub = load_subject("sub-03", with_splits)
    own = sub.get_noise_ceiling(session="ses-02")
    with exploring(with_splits) as address:
        page.page.goto(f"{address}licenses.txt")
        page.page.evaluate(MODEL, ["sub-03", own["voxel"].values.tolist(), own.values.tolist()])
        page.says("brain", "Click in the brain")
        voxel = int(sub.get_betas(roi="FFA1")["voxel"][0])
        page.ask(f"notebook.set('voxel', {voxel})")
        page.says("responses", f"Voxel {voxel}")
        row = page.page.get_by_role("group", name="Strongest")
        page.until(lambda: row.locator(".thumbnail").count(), "pictures are shown")
        row.locator(".thumbnail").first.click()
        image = row.locator(".thumbnail").first.get_attribute("data-picture")
        page.until(lambda: page.ask("notebook.traits.picture") == image, "the kernel knows it")
        page.ask("notebook.set('_overlay', notebook.overlay)")
        page.says("brain", "my values")
        page.says("brain", "apples")
        assert page.panel("brain").get_by_label("Overlay").input_value() == "own"
        field = page.panel("brain").get_by_label("Go to")
        other = int(sub.get_betas(roi="PPA")["voxel"][0])
        field.fill(str(other))
        field.press("Enter")
        page.until(lambda: page.ask("notebook.traits.voxel") == other, "the kernel knows it")
        value = float(own.sel(voxel=other))
        page.says("brain", f"{value:.4g}"[:4])
        page.ask("notebook.set('_overlay', null)")
        page.says("brain", "Noise ceiling, Allrep")
        assert page.problems() == []
