"""The pictures of the made-up experiment: drawn from the features that the voxels respond to.

The regions that prefer a content (a face, a body, …) respond to pictures that show it; small things
in front of the main thing add a little of a second content. This module reads and writes no files.
"""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from laion_zarr.conversion.synthetic.model.experiment import CONTENTS, features
from laion_zarr.conversion.synthetic.shapes import COLOURS, KINDS, SKINS, Colour, Kind, Pen

Mask = NDArray[np.uint8]  # (y, x), 0 or 1

# Dark colours, then the pale counterpart of each: `_background` takes the counterpart of a colour
# on which the main thing would not stand out.
BACKGROUNDS = {
    "dark green": (36, 76, 58),
    "dark blue": (36, 52, 96),
    "dark red": (104, 42, 46),
    "dark grey": (66, 66, 72),
    "pale green": (202, 226, 196),
    "pale blue": (194, 218, 238),
    "pale pink": (246, 218, 214),
    "pale grey": (214, 214, 216),
}
_CONTRAST = 55  # least difference of brightness between the main thing and the background
_FINE = 3  # oversampling, for smooth edges; odd, so that each pixel has a central sample
_SMALL = 0.12  # radius of the small things, as a fraction of the picture's side
_ON_GROUND = ("body", "place", "object")
_CORNERS = ((0.14, 0.85), (0.86, 0.85), (0.86, 0.15))


# Scenes


@dataclass(frozen=True)
class Thing:
    """An object in a picture: its kind, colour, position and size."""

    kind: Kind
    colour: str
    fill: Colour
    centre: tuple[float, float]  # x, y as fractions of the picture's side
    radius: float  # as a fraction of the picture's side
    trait: float  # 0 … 1, varies the shape


@dataclass(frozen=True)
class Scene:
    """Description of a picture, from which it is drawn and captioned."""

    label: str
    content: str  # one of `CONTENTS`
    main: Thing
    small: tuple[Thing, ...]  # all of one kind, in front of the main thing
    background: str
    mode: str  # PIL mode of the encoded picture: RGB, RGBA or L (grey)

    @property
    def things(self) -> tuple[Thing, ...]:
        """All things, from back to front."""
        return self.main, *self.small


def _uniform(value: float) -> float:
    """Map a normally distributed number to a uniformly distributed one between 0 and 1."""
    return min(0.5 * (1 + math.erf(value / 2**0.5)), 0.9999)


def _brightness(colour: Colour) -> float:
    """Perceived brightness of a colour, 0 … 255."""
    return float(np.dot(colour, (0.3, 0.59, 0.11)))


def _background(wanted: float, main: Colour) -> str:
    """Name of the background at `wanted` (0 … 1), or its counterpart, if `main` needs contrast."""
    names = list(BACKGROUNDS)
    index = int(wanted * len(names))
    if abs(_brightness(BACKGROUNDS[names[index]]) - _brightness(main)) < _CONTRAST:
        index = (index + len(names) // 2) % len(names)
    return names[index]


def _choose(content: str, kind: float, colour: float, label: str) -> tuple[Kind, str, Colour]:
    """Choose the kind and colour of a thing; an object named in the label is that object."""
    kinds, colours = KINDS[content], list((SKINS if content == "face" else COLOURS).items())
    named = [one for one in kinds if f"_{one.noun}" in label]
    chosen = named[0] if named else kinds[int(kind * len(kinds))]
    return (chosen, *colours[int(colour * len(colours))])


def _mode(label: str) -> str:
    """PIL mode of a picture: RGBA for most PNG files, L (grey) for some JPEG files, else RGB."""
    if label.endswith(".png"):
        return "RGB" if "illusion" in label else "RGBA"
    return "L" if zlib.crc32(label.encode()) % 16 == 0 else "RGB"


def scene(label: str) -> Scene:
    """Make the scene of an image from its features and, for some objects, from its name.

    The content with the highest feature is the main thing. The second highest, if its feature is
    positive, is shown by small things in the corners.
    """
    values = features(label)
    contents = values[: len(CONTENTS)]
    first, second = (CONTENTS[k] for k in np.argsort(contents)[:-3:-1])
    colour, ground, x, y, kind, size, trait = map(_uniform, values[len(CONTENTS) :].tolist())
    beside = contents[CONTENTS.index(second)] > 0
    painted = _choose(first, kind, colour, label)
    background = _background(ground, painted[2])
    # The main thing moves up a little to make room for small things.
    centre = (0.5 + 0.1 * (x - 0.5), 0.5 + 0.06 * (y - 0.5) - 0.05 * beside)
    main = Thing(*painted, centre, 0.3 + 0.1 * size, trait)
    small = []
    if beside:
        # Kind and colour reuse the features of the main thing: there are no unused ones.
        painted = _choose(second, (kind * 7 + colour) % 1, (colour * 5 + 0.4) % 1, "")
        for corner in _CORNERS[: 1 + int(3 * trait)]:
            small.append(Thing(*painted, corner, _SMALL, (trait * 3) % 1))
    return Scene(label, first, main, tuple(small), background, _mode(label))


# Pictures


@dataclass(frozen=True)
class Picture:
    """A drawn scene: the colours of its pixels, and the thing that each pixel shows."""

    scene: Scene
    colours: NDArray[np.uint8]  # (y, x, 3)
    numbers: NDArray[np.uint8]  # (y, x): 0 is background, n the thing with index n - 1

    def mask(self, thing: int) -> Mask:
        """Mask of the pixels that show the thing with index `thing`, from 0."""
        return (self.numbers == thing + 1).astype(np.uint8)

    def encode(self) -> bytes:
        """Encode the picture as JPEG, or as PNG if its label ends with ``.png``."""
        image, data = Image.fromarray(self.colours), io.BytesIO()
        if self.scene.mode == "RGBA":
            image.putalpha(_alpha(self.numbers))
        elif self.scene.mode == "L":
            image = image.convert("L")
        if self.scene.label.endswith(".png"):
            image.save(data, "PNG")
        else:
            image.save(data, "JPEG", quality=92, subsampling=0)
        return data.getvalue()


def _alpha(numbers: NDArray[np.uint8]) -> Image.Image:
    """Alpha channel of a cut-out: things are opaque, a halo around them is translucent."""
    things = np.where(numbers > 0, np.uint8(255), np.uint8(0))
    halo = Image.fromarray(things).filter(ImageFilter.GaussianBlur(len(numbers) / 20))
    return Image.fromarray(np.maximum(things, np.asarray(halo) // 4 * 3))


def _backdrop(scene: Scene, side: int) -> Image.Image:
    """Draw a wall, lighter at the top, and a floor if the content is one that stands on it."""
    tones = np.linspace(1.08, 0.9, side)
    if scene.content in _ON_GROUND:
        tones[int(0.72 * side) :] *= 0.82
    rows = np.outer(tones, BACKGROUNDS[scene.background]).clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.repeat(rows[:, None], side, axis=1))


def _outline(colours: NDArray[np.uint8], numbers: NDArray[np.uint8], width: int) -> None:
    """Darken the rim of each thing, in place."""
    rim = np.zeros(numbers.shape, bool)
    for axis in (0, 1):
        for shift in (-width, width):
            rim |= np.roll(numbers, shift, axis) != numbers
    rim &= numbers > 0
    colours[rim] //= 3


def draw(scene: Scene, side: int) -> Picture:
    """Draw a scene as a square picture of `side` × `side` pixels."""
    fine = side * _FINE
    backdrop, numbers = _backdrop(scene, fine), Image.new("L", (fine, fine))
    pens = ImageDraw.Draw(backdrop), ImageDraw.Draw(numbers)
    for number, thing in enumerate(scene.things, 1):
        x, y = thing.centre
        thing.kind.paint(
            Pen(*pens, number, (x * fine, y * fine), thing.radius * fine, thing.fill, thing.trait)
        )
    colours, owners = np.array(backdrop), np.array(numbers)
    _outline(colours, owners, max(1, fine // 160))
    reduced = np.asarray(Image.fromarray(colours).reduce(_FINE))
    # A pixel belongs to the thing at its central sample, so masks are binary and do not overlap.
    middle = slice(_FINE // 2, None, _FINE)
    return Picture(scene, reduced, owners[middle, middle])


def box(mask: Mask) -> tuple[int, int, int, int]:
    """Bounding box of a mask: x0, y0, x1, y1, the ends exclusive."""
    columns, rows = (np.flatnonzero(mask.any(axis)) for axis in (0, 1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


# Captions


def _a(phrase: str) -> str:
    """Put the article "a" or "an" before a phrase."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _beside(scene: Scene) -> str:
    """Phrase for the small things of a scene, empty if it has none."""
    if not scene.small:
        return ""
    noun = scene.small[0].kind.noun
    count = ("", "two small", "three small")[len(scene.small) - 1]
    return f"{count} {noun}s" if count else f"a small {noun}"


def describe(scene: Scene, rank: int) -> str:
    """Caption of a scene: 0 describes it in full, 1 to 5 are worded as by different people."""
    colour = "grey" if scene.mode == "L" else scene.main.colour
    main = _a(scene.main.kind.phrase.format(colour))
    # A cut-out is transparent around its things, and is displayed on grey.
    ground = scene.background if scene.mode == "RGB" else "grey"
    small = _beside(scene)
    both = f"{main} and {small}" if small else main
    said = (
        f"the image shows {main}, centred on a plain {ground} background"
        f"{f', with {small} in front' if small else ''}. it is a flat, simple drawing.",
        f"{both} on a {ground} background.",
        f"a drawing of {both}",
        f"{main}, {f'{small} in the corner, ' if small else ''}{ground} behind it.",
        f"i see {both}. the background is {ground}.",
        f"{scene.main.kind.noun}{f' + {small}' if small else ''}",
    )[rank]
    return ". ".join(part[:1].upper() + part[1:] for part in said.split(". "))
