"""Pictures that cannot be decoded, are too large, or differ in size."""

from __future__ import annotations

import re
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageFile
from stimulus_mirror import (
    HTML,
    NAMES,
    SHOWN,
    SIDES,
    TRANSPARENT,
    as_shown,
    check,
    command,
    encoded,
    names_and_mends,
    picture,
    write_pictures,
)
from stimulus_mirror import mirror as mirror
from stimulus_mirror import new as new
from stimulus_mirror import whole as whole
from trees import tree_bytes

from laion_zarr import load_stimuli, load_subject
from laion_zarr import verify as verify_store
from laion_zarr.errors import SourceError

NOT_PICTURES = {
    "empty": b"",
    "garbage": b"garbage" * 30,
    "web page": HTML,
    "truncated JPEG": picture(NAMES[1])[:-120],
    "JPEG header": picture(NAMES[1])[:30],
    "truncated PNG": picture(TRANSPARENT)[:-60],
    "flipped PNG": (lambda d: d[:80] + bytes([d[80] ^ 1]) + d[81:])(picture(TRANSPARENT)),
}


@pytest.mark.parametrize("case", NOT_PICTURES)
def test_undecodable_picture(mirror, new, case):
    """The picture is stored byte for byte; decoding names it; all other pictures are read."""
    bad = NAMES[1]
    data = {name: picture(name) for name in NAMES} | {bad: NOT_PICTURES[case]}
    write_pictures(mirror, list(data.values()))
    assert command(mirror, new) == 0
    check(mirror, new, bad={bad})
    stim, sub = load_stimuli(new), load_subject("01", new)
    everything = stim.images.array()
    with pytest.raises(SourceError, match=re.escape(bad)):
        everything.compute()
    with pytest.raises(SourceError, match=re.escape(bad)):
        sub.images.array().compute()
    with pytest.raises(SourceError, match=re.escape(bad)):
        list(sub.images.all())
    for trial, name in enumerate(SHOWN):
        assert sub.images[trial] == data[name]
        if name != bad:
            np.testing.assert_array_equal(np.asarray(sub.images.get(trial)), as_shown(data[name]))
    assert not verify_store(new, mirror, deep=True, progress=False).problems
    write_pictures(mirror, [picture(name) for name in NAMES])
    assert command(mirror, new) == 0
    check(mirror, new)


def test_all_pictures_undecodable(mirror, new):
    write_pictures(mirror, [b""] * len(NAMES))
    assert command(mirror, new) == 0
    stim = load_stimuli(new)
    assert dict(stim.images) == dict.fromkeys(NAMES, b"")
    for ask in (lambda: stim.images.get(0), lambda: stim.images.array().compute()):
        with pytest.raises(SourceError, match="cannot be decoded"):
            ask()


def png(width, height, data=b""):
    """A PNG whose header claims a size."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


BOMBS = {
    "claims 50,000 x 50,000": (50_000, png(50_000, 50_000)),
    # One bit a pixel: 12 MB of zeros, packed to nothing.
    "is 10,000 x 10,000": (10_000, png(10_000, 10_000, zlib.compress(bytes(10_000 * 1251)))),
}
NO_LIMIT, LOW_LIMIT = None, 50  # pixels, of Pillow


@pytest.mark.parametrize("limit", ["as it comes", NO_LIMIT, LOW_LIMIT])
@pytest.mark.parametrize("case", BOMBS)
def test_decompression_bomb(mirror, new, monkeypatch, case, limit):
    """Refused by name, without a warning or memory, whatever the user's settings of Pillow."""
    side, bomb = BOMBS[case]
    bad = NAMES[1]
    write_pictures(mirror, [bomb if name == bad else picture(name) for name in NAMES])
    loaded = []
    load = ImageFile.ImageFile.load

    def watched(image):
        loaded.append(image.size)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    default = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert command(mirror, new) == 0  # the store as it comes, the reader with the settings
        if limit != "as it comes":
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        stim = load_stimuli(new)
        for ask in (
            lambda: stim.images.get(bad),
            lambda: stim.images.get(bad, as_displayed=False),
            lambda: stim.images.array([bad], size=SIDES).compute(),
            lambda: next(load_subject("01", new).images.all()),
        ):
            with pytest.raises(SourceError) as caught:
                ask()
            names_and_mends(str(caught.value), repr(bad), "expected", "found", "pixels")
        assert (side, side) not in loaded
        other = np.asarray(stim.images.get(NAMES[0]))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", default)
    np.testing.assert_array_equal(other, as_shown(picture(NAMES[0])))
    assert stim.images[bad] == bomb


@pytest.mark.parametrize("limit", [NO_LIMIT, LOW_LIMIT])
def test_store_does_not_depend_on_the_settings_of_pillow(mirror, tmp_path, monkeypatch, limit):
    bombs = [bomb for _, bomb in BOMBS.values()]
    write_pictures(mirror, [*bombs, *map(picture, NAMES[2:])])
    assert command(mirror, tmp_path / "a.zarr") == 0
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert command(mirror, tmp_path / "b.zarr") == 0
    assert tree_bytes(tmp_path / "a.zarr") == tree_bytes(tmp_path / "b.zarr")


def test_nothing_is_run_to_decode_a_picture(mirror, new, monkeypatch):
    """Only JPEG and PNG are decoded: of a PostScript file, Pillow would have the program run."""
    bad = NAMES[1]
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 12 10\n%%EndComments\nshowpage\n%%EOF\n"
    write_pictures(mirror, [eps if name == bad else picture(name) for name in NAMES])
    ran = []

    def ghostscript(*args, **options):
        ran.append(args)
        return Image.new("RGB", SIDES[::-1]).im

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    assert command(mirror, new) == 0
    with pytest.raises(SourceError, match=re.escape(bad)):
        load_stimuli(new).images.get(bad)
    assert not ran


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF"])
def test_other_formats_are_no_pictures(mirror, new, form):
    bad = NAMES[1]
    data = encoded(np.zeros((*SIDES, 3), np.uint8), form)
    write_pictures(mirror, [data if name == bad else picture(name) for name in NAMES])
    assert command(mirror, new) == 0
    with pytest.raises(SourceError, match=re.escape(bad)) as caught:
        load_stimuli(new).images.get(bad)
    assert "JPEG or PNG" in str(caught.value)


def test_pictures_of_different_size(mirror, new):
    odd = {NAMES[1]: (7, 9), NAMES[4]: (20, 4)}
    data = {name: picture(name, odd.get(name, SIDES)) for name in NAMES}
    write_pictures(mirror, list(data.values()))
    assert command(mirror, new) == 0
    stim, sub = load_stimuli(new), load_subject("01", new)
    for ask in (stim.images.array, sub.images.array, lambda: stim.images.array(NAMES[:2])):
        with pytest.raises(ValueError, match="size=") as caught:
            ask()
        assert NAMES[1] in str(caught.value) or NAMES[0] in str(caught.value)
        assert "7 × 9" in str(caught.value) or "10 × 12" in str(caught.value)
    with pytest.raises(ValueError, match="size=") as caught:
        stim.images.array()
    for name, sides in odd.items():
        assert f"{name} ({sides[0]} × {sides[1]})" in str(caught.value)
    alike = [name for name in NAMES if name not in odd]
    found = stim.images.array(alike).values
    np.testing.assert_array_equal(found, [as_shown(data[name]) for name in alike])
    for name in NAMES:
        assert stim.images.get(name).size == odd.get(name, SIDES)[::-1]
    resized = stim.images.array(size=(5, 6))
    assert resized.shape == (6, 5, 6, 3)
    expected = [
        np.asarray(Image.fromarray(as_shown(d)).resize((6, 5), Image.Resampling.LANCZOS))
        for d in data.values()
    ]
    np.testing.assert_array_equal(resized.values, expected)
    seen = [NAMES.index(name) for name in SHOWN]
    np.testing.assert_array_equal(sub.images.array(size=(5, 6)).values, np.array(expected)[seen])
    assert stim.dataset["height"].values.tolist() == [odd.get(n, SIDES)[0] for n in NAMES]
