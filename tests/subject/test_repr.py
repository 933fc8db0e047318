"""What `repr` and HTML show of a subject and of its arrays."""

from __future__ import annotations

import dataclasses
import html.parser
import re

import numpy as np
import pytest
from converting import alone
from source_answers import SESSIONS, SUB
from source_answers import counting as counting
from source_answers import labels as labels
from source_answers import masks as masks
from source_answers import rois as rois

from laion_zarr import convert, load_subject
from laion_zarr.conversion.synthetic import SIZES, write_dataset
from laion_zarr.errors import LaionZarrError, UnknownNameError
from laion_zarr.splits import list_splits


class _Balanced(html.parser.HTMLParser):
    """Fails where a tag is not closed; keeps the text."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += f"{data} "


def text_of(markup):
    parser = _Balanced()
    parser.feed(markup)
    parser.close()
    assert parser.open == []
    return parser.text


def test_repr_says_what_is_there(sub, store, rois, masks, labels):
    for text in (repr(sub), text_of(sub._repr_html_())):
        words = set(re.findall(r"[\w-]+", text))
        assert {SUB, *SESSIONS} <= words
        assert {*rois, *(category for category, _ in rois.values())} <= words
        assert {"Noiseceiling4rep", "Noiseceiling12rep", "NoiseceilingAllrep"} <= words
        assert str(store) in text
        assert f"{masks['anatomical'].sum():,} anatomical" in text
        assert f"{masks['rsquare'].sum():,} rsquare" in text
        assert {str(len(labels)), str(len(set(labels)))} <= words
    assert repr(sub).startswith(f"<laion_zarr.Subject {SUB}>")


def test_html_is_escaped(store, tmp_path):
    odd = tmp_path / "<b>bold<i> & co"
    odd.symlink_to(store, target_is_directory=True)
    markup = load_subject(SUB, odd)._repr_html_()
    assert "&lt;b&gt;bold&lt;i&gt; &amp; co" in markup
    assert "<b>bold" not in markup
    assert str(odd) in text_of(markup)


def test_arrays_show_themselves_without_reading(counting):
    sub = load_subject(SUB, counting)
    for array in (sub.get_betas(roi="FFA1"), sub.dataset, sub.dataset["betas"]):
        assert "dask.array" in repr(array)
        assert "dask.array" in array._repr_html_()
    assert counting.of_betas() == []


@pytest.fixture(scope="module")
def long_subject(tmp_path_factory):
    """A subject of thirty sessions."""
    root = tmp_path_factory.mktemp("long")
    size = dataclasses.replace(SIZES["tiny"], trials=(6, 7) * 15)
    write_dataset(root / "mirror", size, [1], progress=False)
    convert(root / "mirror", root / "s.zarr", parts="betas", n_workers=1, progress=False)
    return load_subject(1, root / "s.zarr")


def test_a_whole_subject_fits_one_screen(long_subject):
    assert len(long_subject.get_sessions()) == 30
    for shown in (long_subject, long_subject.dataset, long_subject.get_betas()):
        lines = repr(shown).splitlines()
        assert len(lines) <= 40
        assert max(map(len, lines)) <= 120
    assert "30 (ses-01 … ses-30)" in repr(long_subject)
    # In a notebook: a line a fact; what is longer is folded.
    assert long_subject._repr_html_().count("<tr>") <= 12
    for attrs in (long_subject.dataset.attrs, long_subject.get_brain_mask().attrs):
        assert len(str(attrs)) < 400


def test_a_store_without_sessions_shows_what_it_has(bids_root, store, tmp_path):
    alone(bids_root, tmp_path / "s.zarr", subjects="01", parts="anatomy")
    sub = load_subject("01", tmp_path / "s.zarr")
    assert "none yet" in repr(sub)
    full = load_subject("01", store)
    np.testing.assert_array_equal(sub.get_roi_mask("laionEVC"), full.get_roi_mask("laionEVC"))
    with pytest.raises(LaionZarrError, match="no session in the store yet"):
        sub.get_betas()


def test_a_notebook_shows_the_users_lines_and_what_mends(copy_of, store, tmp_path):
    """Also where the error comes from inside a Dask task."""
    own = copy_of(store)
    for shard in own.glob(f"{SUB}/ses-01/betas/c/*/*"):
        shard.unlink()
    script = tmp_path / "cell.py"
    script.write_text(
        "def ask():\n    return load_subject(1, own).get_betas(roi='FFA1').compute()\n\n\nask()\n"
    )
    code = compile(script.read_text(), script, "exec")
    with pytest.raises(LaionZarrError) as caught:
        exec(code, {"load_subject": load_subject, "own": own, "__name__": "__main__"})
    lines = "".join(caught.value._render_traceback_()).splitlines()
    assert len(lines) < 12
    assert [line.strip() for line in lines if "cell.py" in line] == [
        f'File "{script}", line 5, in <module>',
        f'File "{script}", line 2, in ask',
    ]
    assert "site-packages" not in "".join(lines[:-1])
    assert "laion-zarr" in lines[-1]


@pytest.mark.parametrize(
    "ask",
    [
        lambda sub: sub.get_betas(roi="FFA9"),
        lambda sub: sub.get_betas(mask_source="brain"),
        lambda sub: sub.get_betas(stimuli="common"),
        lambda sub: sub.get_available_rois("fase"),
        lambda sub: sub.get_surface("white", hemi="left"),
        lambda sub: list_splits("everyone"),
    ],
)
def test_a_notebook_shows_no_frame_of_ours_for_an_unknown_name(sub, ask):
    with pytest.raises(UnknownNameError) as caught:
        ask(sub)
    shown = "".join(caught.value._render_traceback_())
    assert "test_repr.py" in shown
    assert "laion_zarr/" not in shown
    assert str(caught.value) in shown
