"""Shapes of the made-up pictures: a few kinds of things per content, drawn with polygons.

This module does not depend on the experiment, and reads and writes no files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from PIL import ImageDraw

Colour = tuple[int, int, int]
Points = Sequence[tuple[float, float]]  # x to the right, y down; a thing spans -1 … 1

INK, WHITE = (38, 34, 40), (250, 248, 244)
COLOURS = {
    "red": (214, 66, 58),
    "orange": (240, 142, 50),
    "yellow": (247, 208, 78),
    "green": (98, 172, 92),
    "blue": (74, 128, 208),
    "purple": (146, 100, 184),
    "pink": (238, 150, 178),
    "white": (240, 238, 230),
}
SKINS = {
    "yellow": (250, 212, 92),
    "pink": (246, 200, 176),
    "tan": (214, 160, 112),
    "brown": (150, 100, 70),
}
HAIR = ((60, 42, 34), (120, 76, 40), (206, 160, 70), (34, 32, 38), (150, 148, 150))


@dataclass(frozen=True)
class Pen:
    """Draws one thing into two images: in its colours, and with its number as pixel value."""

    colours: ImageDraw.ImageDraw
    numbers: ImageDraw.ImageDraw
    number: int
    centre: tuple[float, float]  # pixels
    radius: float  # pixels
    fill: Colour  # colour of the thing
    trait: float  # 0 … 1, varies the shape

    def _at(self, points: Points) -> list[tuple[float, float]]:
        x, y = self.centre
        return [(x + self.radius * u, y + self.radius * v) for u, v in points]

    def polygon(self, points: Points, colour: Colour | None = None) -> None:
        """Fill a polygon; with the thing's own colour if `colour` is None."""
        corners = self._at(points)
        self.colours.polygon(corners, fill=colour or self.fill)
        self.numbers.polygon(corners, fill=self.number)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour | None = None) -> None:
        """Fill a rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, colour: Colour | None = None
    ) -> None:
        """Fill an ellipse."""
        self.polygon(_arc(x, y, rx, ry), colour)

    def line(self, points: Points, width: float, colour: Colour | None = None) -> None:
        """Draw a line with round corners and ends."""
        for (x0, y0), (x1, y1) in pairwise(points):
            scale = width / 2 / max(math.hypot(x1 - x0, y1 - y0), 1e-6)
            dx, dy = (y0 - y1) * scale, (x1 - x0) * scale
            self.polygon(
                [(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)],
                colour,
            )
        for x, y in points:
            self.ellipse(x, y, width / 2, width / 2, colour)

    def shade(self, by: float) -> Colour:
        """The thing's colour multiplied by `by`: darker below 1, lighter above 1."""
        red, green, blue = (min(255, round(part * by)) for part in self.fill)
        return red, green, blue


def _arc(
    x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 360
) -> list[tuple[float, float]]:
    """Points of an ellipse from one angle to another: degrees, clockwise from the right."""
    angles = np.radians(np.linspace(start, end, 37))
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


_BROWS = {"smiling": (-0.33, -0.3), "sad": (-0.36, -0.26), "surprised": (-0.42, -0.38)}


def _face(pen: Pen, mouth: str) -> None:
    """A head with hair, eyes, nose and a mouth that is smiling, sad or surprised."""
    hair = HAIR[int(pen.trait * len(HAIR))]
    if pen.trait * 10 % 2 < 1:
        pen.ellipse(0, -0.02, 0.92, 0.98, hair)
        pen.box(-0.92, 0, 0.92, 0.75, hair)
    for side in (-1, 1):
        pen.ellipse(side * 0.76, 0.1, 0.16, 0.2, pen.shade(0.88))
    pen.ellipse(0, 0.05, 0.76, 0.95)
    pen.polygon([*_arc(0, -0.05, 0.78, 0.93, 190, 350), (0.3, -0.52), (-0.4, -0.48)], hair)
    inner, outer = _BROWS[mouth]
    for side in (-1, 1):
        pen.ellipse(side * 0.32, -0.08, 0.18, 0.15, WHITE)
        pen.ellipse(side * 0.32, -0.06, 0.09, 0.11, INK)
        pen.line([(side * 0.2, inner), (side * 0.48, outer)], 0.08, hair)
    pen.line([(0.02, 0.05), (-0.08, 0.3), (0.06, 0.32)], 0.06, pen.shade(0.68))
    lips = (176, 52, 60)
    if mouth == "smiling":
        pen.polygon(_arc(0, 0.46, 0.4, 0.3, 0, 180), lips)
        pen.polygon([(-0.36, 0.47), (0.36, 0.47), (0.3, 0.56), (-0.3, 0.56)], WHITE)
    elif mouth == "sad":
        pen.line(_arc(0, 0.8, 0.3, 0.22, 200, 340), 0.1, lips)
    else:
        pen.ellipse(0, 0.62, 0.18, 0.24, lips)


_POSES: dict[str, dict[str, Points]] = {
    # Arms: shoulder, elbow, hand. Legs: hip, knee, foot.
    "waving": {
        "arms": [(-0.2, -0.42), (-0.52, -0.5), (-0.5, -0.92)],
        "other arm": [(0.2, -0.42), (0.44, -0.12), (0.4, 0.2)],
        "legs": [(-0.1, 0.2), (-0.18, 0.58), (-0.2, 0.94)],
        "other leg": [(0.1, 0.2), (0.18, 0.58), (0.2, 0.94)],
    },
    "running": {
        "arms": [(-0.16, -0.42), (-0.46, -0.24), (-0.66, -0.5)],
        "other arm": [(0.18, -0.42), (0.34, -0.08), (0.64, -0.22)],
        "legs": [(-0.08, 0.2), (-0.26, 0.58), (-0.72, 0.56)],
        "other leg": [(0.08, 0.2), (0.42, 0.42), (0.4, 0.94)],
    },
    "jumping": {
        "arms": [(-0.2, -0.42), (-0.46, -0.58), (-0.7, -0.94)],
        "other arm": [(0.2, -0.42), (0.46, -0.58), (0.7, -0.94)],
        "legs": [(-0.1, 0.2), (-0.42, 0.4), (-0.66, 0.78)],
        "other leg": [(0.1, 0.2), (0.42, 0.4), (0.66, 0.78)],
    },
}


def _figure(pen: Pen, pose: str) -> None:
    """A person without a face: shirt in the thing's colour, dark trousers."""
    pose_of, skin = _POSES[pose], list(SKINS.values())[int(pen.trait * len(SKINS))]
    trousers = (58, 62, 92)
    for limb in ("legs", "other leg"):
        pen.line(pose_of[limb], 0.2, trousers)
        (x, y) = pose_of[limb][-1]
        pen.ellipse(x + 0.05, y, 0.14, 0.08, INK)
    for limb in ("arms", "other arm"):
        pen.line(pose_of[limb], 0.15, skin)
        pen.line(pose_of[limb][:2], 0.19)
    pen.polygon([(-0.28, -0.52), (0.28, -0.52), (0.2, 0.24), (-0.2, 0.24)])
    pen.line([(0, -0.6), (0, -0.5)], 0.14, skin)
    pen.ellipse(0, -0.76, 0.19, 0.23, skin)
    hair = HAIR[int(pen.trait * 7 % 1 * len(HAIR))]
    pen.polygon(_arc(0, -0.8, 0.2, 0.2, 180, 360), hair)


def _house(pen: Pen) -> None:
    """A house with a roof, a chimney, windows and a door."""
    roof = (122, 66, 58) if pen.trait < 0.5 else (86, 88, 104)
    pen.box(0.4, -0.86, 0.58, -0.3, pen.shade(0.7))
    pen.box(-0.76, -0.18, 0.76, 0.9)
    pen.polygon([(-0.98, -0.12), (0, -0.92), (0.98, -0.12)], roof)
    for x in (-0.48, 0.48):
        pen.box(x - 0.2, 0.06, x + 0.2, 0.42, WHITE)
        pen.box(x - 0.15, 0.11, x + 0.15, 0.37, (134, 190, 222))
        pen.line([(x, 0.11), (x, 0.37)], 0.05, WHITE)
    pen.box(-0.17, 0.34, 0.17, 0.9, (104, 70, 50))
    pen.ellipse(0.09, 0.64, 0.04, 0.04, (240, 206, 96))


def _castle(pen: Pen) -> None:
    """A castle: two towers with battlements and a gate between them."""
    pen.box(-0.6, -0.14, 0.6, 0.9, pen.shade(0.86))
    for x in np.linspace(-0.4, 0.28, 4):
        pen.box(x, -0.28, x + 0.13, -0.1, pen.shade(0.86))
    for side in (-0.68, 0.68):
        pen.box(side - 0.26, -0.5, side + 0.26, 0.9)
        if pen.trait < 0.5:
            pen.polygon([(side - 0.34, -0.48), (side, -0.98), (side + 0.34, -0.48)], (92, 74, 110))
        else:
            for x in (-0.26, -0.06, 0.14):
                pen.box(side + x, -0.68, side + x + 0.12, -0.46)
        pen.line([(side, -0.2), (side, 0.06)], 0.13, INK)
    pen.polygon([*_arc(0, 0.42, 0.24, 0.3, 180, 360), (0.24, 0.9), (-0.24, 0.9)], INK)


def _mountain(pen: Pen) -> None:
    """A mountain with snow, a lower mountain behind it, and a forest."""
    peak = -0.5 + 0.3 * pen.trait
    pen.polygon([(-0.1, 0.9), (0.55, -0.34), (1, 0.9)], pen.shade(0.72))
    pen.polygon([(-1, 0.9), (peak + 0.1, -0.92), (0.66, 0.9)])
    snow = [(-0.32, -0.3), (-0.12, -0.42), (0.02, -0.28), (0.16, -0.44), (0.25, -0.36)]
    down = [(peak + 0.1 + x * 0.75, y + 0.04) for x, y in snow]
    pen.polygon([(peak + 0.1, -0.92), *reversed(down)], WHITE)
    for x in np.linspace(-0.84, 0.84, 7):
        pen.polygon([(x - 0.15, 0.92), (x, 0.46), (x + 0.15, 0.92)], (42, 98, 66))


def _mug(pen: Pen) -> None:
    """A mug with a handle and a stripe."""
    pen.line(_arc(0.5, 0.12, 0.4, 0.38, -90, 90), 0.17, pen.shade(0.82))
    pen.polygon([(-0.74, -0.6), (0.54, -0.6), (0.48, 0.72), (-0.68, 0.72)])
    pen.ellipse(-0.1, 0.72, 0.58, 0.16)
    stripe = 0.0 + 0.3 * pen.trait
    pen.polygon(
        [(-0.72, stripe), (0.52, stripe), (0.51, stripe + 0.2), (-0.71, stripe + 0.2)], WHITE
    )
    pen.ellipse(-0.1, -0.6, 0.64, 0.2, pen.shade(1.15))
    pen.ellipse(-0.1, -0.58, 0.54, 0.14, (94, 60, 40))


def _lamp(pen: Pen) -> None:
    """A table lamp."""
    pen.line([(0, -0.1), (0, 0.78)], 0.13, (122, 116, 110))
    pen.ellipse(0, 0.82, 0.46, 0.14, (98, 92, 88))
    pen.ellipse(0, 0.36, 0.15 + 0.12 * pen.trait, 0.2, (122, 116, 110))
    pen.polygon([(-0.34, -0.92), (0.34, -0.92), (0.74, 0.02), (-0.74, 0.02)])
    pen.ellipse(0, 0.02, 0.74, 0.13, (255, 240, 176))
    pen.line([(0.5, 0.04), (0.5, 0.36)], 0.04, INK)


def _umbrella(pen: Pen) -> None:
    """An open umbrella."""
    handle = [(0, -0.5), (0, 0.7), *_arc(0.16, 0.7, 0.16, 0.2, 180, 0)]
    pen.line(handle, 0.1, (118, 78, 50))
    pen.line([(0, -0.94), (0, -0.7)], 0.07, (118, 78, 50))
    pen.polygon(_arc(0, 0.06, 0.96, 0.88, 180, 360))
    pen.polygon(_arc(0, 0.06, 0.34, 0.88, 180, 360), pen.shade(0.8 if pen.trait < 0.5 else 1.3))
    for x in (-0.65, 0, 0.65):
        pen.polygon(_arc(x, 0.07, 0.33, 0.13, 0, 180))


def _bell(pen: Pen) -> None:
    """A bell with its clapper."""
    pen.ellipse(0, -0.8, 0.17, 0.17, pen.shade(0.75))
    pen.ellipse(0, 0.72, 0.2, 0.2, pen.shade(0.6))
    pen.polygon([*_arc(0, -0.2, 0.5, 0.54, 180, 360), (0.56, 0.32), (-0.56, 0.32)])
    pen.polygon([(-0.55, 0.3), (0.55, 0.3), (0.84, 0.7), (-0.84, 0.7)])
    pen.line([(-0.8, 0.68), (0.8, 0.68)], 0.12, pen.shade(0.75))
    pen.line([(-0.3, -0.34), (-0.34, 0.1 + 0.2 * pen.trait)], 0.1, pen.shade(1.3))


def _ship(pen: Pen) -> None:
    """A ship with two sails."""
    pen.line([(-0.05, -0.92), (-0.05, 0.4)], 0.09, (104, 70, 50))
    pen.polygon([(0.04, -0.86), (0.8 - 0.2 * pen.trait, 0.26), (0.04, 0.26)], WHITE)
    pen.polygon([(-0.14, -0.7), (-0.14, 0.26), (-0.7, 0.26)], (226, 222, 210))
    pen.polygon([(-0.98, 0.36), (0.98, 0.36), (0.66, 0.86), (-0.66, 0.86)])
    pen.polygon([(-0.98, 0.36), (0.98, 0.36), (0.92, 0.46), (-0.92, 0.46)], pen.shade(0.65))
    for x in (-0.4, 0, 0.4):
        pen.ellipse(x, 0.62, 0.09, 0.09, WHITE)


_STROKES: dict[str, list[Points]] = {
    "A": [[(-0.62, 0.85), (0, -0.85), (0.62, 0.85)], [(-0.4, 0.3), (0.4, 0.3)]],
    "E": [[(0.5, -0.85), (-0.5, -0.85), (-0.5, 0.85), (0.5, 0.85)], [(-0.5, 0), (0.4, 0)]],
    "H": [[(-0.55, -0.85), (-0.55, 0.85)], [(0.55, -0.85), (0.55, 0.85)], [(-0.55, 0), (0.55, 0)]],
    "K": [[(-0.5, -0.85), (-0.5, 0.85)], [(0.55, -0.85), (-0.45, 0.05), (0.6, 0.85)]],
    "M": [[(-0.65, 0.85), (-0.65, -0.85), (0, 0.2), (0.65, -0.85), (0.65, 0.85)]],
    "N": [[(-0.55, 0.85), (-0.55, -0.85), (0.55, 0.85), (0.55, -0.85)]],
    "R": [
        [(-0.5, 0.85), (-0.5, -0.85), *_arc(0.05, -0.42, 0.45, 0.43, -90, 90), (-0.5, 0.01)],
        [(0, 0.01), (0.55, 0.85)],
    ],
    "S": [[*_arc(0, -0.42, 0.5, 0.43, -30, -270), *_arc(0, 0.43, 0.52, 0.43, -90, 150)]],
    "T": [[(-0.65, -0.85), (0.65, -0.85)], [(0, -0.85), (0, 0.85)]],
    "X": [[(-0.58, -0.85), (0.58, 0.85)], [(0.58, -0.85), (-0.58, 0.85)]],
    "Z": [[(-0.55, -0.85), (0.55, -0.85), (-0.55, 0.85), (0.55, 0.85)]],
}


def _letter(pen: Pen, letter: str) -> None:
    """A letter of thick strokes."""
    for points in _STROKES[letter]:
        pen.line(points, 0.24 + 0.12 * pen.trait)


@dataclass(frozen=True)
class Kind:
    """A kind of thing that can be drawn."""

    noun: str
    phrase: str  # format string that takes the colour
    paint: Callable[[Pen], None]


KINDS: dict[str, tuple[Kind, ...]] = {
    "face": tuple(
        Kind("face", f"{mouth} {{}} face", partial(_face, mouth=mouth)) for mouth in _BROWS
    ),
    "body": tuple(
        Kind("figure", f"{pose} figure in {{}}", partial(_figure, pose=pose)) for pose in _POSES
    ),
    "place": (
        Kind("house", "{} house", _house),
        Kind("castle", "{} castle with two towers", _castle),
        Kind("mountain", "{} mountain above a forest", _mountain),
    ),
    "object": (
        Kind("mug", "{} mug", _mug),
        Kind("lamp", "{} table lamp", _lamp),
        Kind("umbrella", "{} umbrella", _umbrella),
        Kind("bell", "{} bell", _bell),
        Kind("ship", "{} ship with two sails", _ship),
    ),
    "character": tuple(
        Kind("letter", f"{{}} letter {letter}", partial(_letter, letter=letter))
        for letter in _STROKES
    ),
}
