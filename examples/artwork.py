"""The artwork of the scenes: ships, sailboats, buoys, wind turbines and what only looks like them, as polygons.

Coordinates: x to the right, y up, the waterline at y = 0. Things are about one unit in their longer side; every draw
differs in build, colours and the side it faces.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]
Point = tuple[float, float]
Shape = tuple[Colour, list[Point]]  # a filled polygon

HULLS: tuple[Colour, ...] = ((30, 34, 48), (120, 30, 28), (24, 60, 110), (40, 90, 70), (200, 200, 196), (70, 74, 80))
BOXES: tuple[Colour, ...] = ((176, 62, 44), (38, 92, 140), (60, 120, 80), (190, 150, 50), (150, 152, 150))
SAILS: tuple[Colour, ...] = ((244, 242, 234), (236, 226, 200), (225, 90, 60), (60, 110, 170), (250, 250, 250))
FLOATS: tuple[Colour, ...] = ((200, 36, 30), (24, 130, 70), (235, 190, 30), (40, 40, 44), (240, 110, 20))
WHITE: Colour = (238, 238, 234)
DARK: Colour = (46, 48, 54)


@dataclass(frozen=True, slots=True)
class Artist:
    """How to draw one class of thing."""

    draw: Callable[[np.random.Generator], list[Shape]]
    span: tuple[float, float]  # its unit, far away and near, as a share of the picture's height
    rolls: float  # standard deviation of its lean in the highest swell, in degrees


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    """One of the colours, a little faded or fresh."""
    red, green, blue = (np.asarray(colours[rng.integers(len(colours))]) + rng.integers(-14, 15, 3)).clip(0, 255)
    return (int(red), int(green), int(blue))


def _facing(rng: np.random.Generator, shapes: list[Shape]) -> list[Shape]:
    if rng.random() < 0.5:
        return shapes
    return [(colour, [(-x, y) for x, y in points]) for colour, points in shapes]


def _block(left: float, bottom: float, right: float, top: float) -> list[Point]:
    return [(left, bottom), (right, bottom), (right, top), (left, top)]


def _disc(x: float, y: float, radius: float, corners: int = 16) -> list[Point]:
    turns = (2 * math.pi * corner / corners for corner in range(corners))
    return [(x + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns]


def ship(rng: np.random.Generator) -> list[Shape]:
    """A freighter with boxes, a tanker with pipes, a ferry with decks or a trawler with gear; one unit long."""
    hull, deck = _pick(rng, HULLS), rng.uniform(0.07, 0.11)
    shapes: list[Shape] = [(hull, [(-0.48, 0), (0.42, 0), (0.5, deck * 1.25), (0.4, deck), (-0.5, deck)])]
    shapes.append(((130, 40, 36), [(-0.48, 0), (0.42, 0), (0.425, deck * 0.2), (-0.483, deck * 0.2)]))
    build = rng.choice(["freighter", "tanker", "ferry", "trawler"])
    if build == "ferry":
        for level in range(int(rng.integers(2, 4))):
            low, inset = deck + 0.045 * level, 0.04 * level
            shapes.append((WHITE, _block(-0.46 + inset, low, 0.32 - inset, low + 0.045)))
            shapes.append((DARK, _block(-0.44 + inset, low + 0.015, 0.3 - inset, low + 0.028)))
        shapes.append((_pick(rng, BOXES), _block(-0.22, low + 0.045, -0.12, low + 0.1)))
        return _facing(rng, shapes)
    house = rng.uniform(0.12, 0.2)
    if build == "trawler":
        shapes += [(WHITE, _block(0.08, deck, 0.28, deck + house)), (DARK, _block(0.2, deck + 0.08, 0.28, deck + 0.11))]
        shapes += [(DARK, _block(-0.3, deck, -0.28, deck + 0.3)), (DARK, _block(0.16, deck, 0.175, deck + 0.34))]
        shapes.append((DARK, [(-0.29, deck + 0.29), (-0.47, deck + 0.16), (-0.46, deck + 0.15), (-0.28, deck + 0.27)]))
        return _facing(rng, shapes)
    shapes.append((WHITE, _block(-0.44, deck, -0.3, deck + house)))
    shapes.append((DARK, _block(-0.43, deck + house - 0.035, -0.3, deck + house - 0.015)))
    shapes.append((_pick(rng, HULLS), _block(-0.42, deck + house, -0.37, deck + house + 0.05)))
    if build == "tanker":
        shapes.append((DARK, _block(-0.28, deck, 0.36, deck + 0.018)))
        shapes += [(DARK, _block(x, deck, x + 0.012, deck + 0.07)) for x in (-0.1, 0.05, 0.2)]
        return _facing(rng, shapes)
    for stack in range(7):
        left = -0.27 + 0.09 * stack
        for level in range(int(rng.integers(0, 4))):
            low = deck + 0.036 * level
            shapes.append((_pick(rng, BOXES), _block(left, low, left + 0.085, low + 0.034)))
    return _facing(rng, shapes)


def sailboat(rng: np.random.Generator) -> list[Shape]:
    """Hull, mast, mainsail and mostly a jib; one unit high."""
    length, boom = rng.uniform(0.5, 0.7), rng.uniform(0.12, 0.16)
    stern, bow, mast = -length / 2, length / 2, length * rng.uniform(0.02, 0.12)
    sail, belly = _pick(rng, SAILS), rng.uniform(0.0, 0.05)
    shapes: list[Shape] = [(_pick(rng, HULLS + SAILS), [(stern * 0.9, 0), (bow * 0.75, 0), (bow, 0.1), (stern, 0.09)])]
    shapes.append((DARK, _block(mast - 0.008, 0.09, mast + 0.008, 1.0)))
    shapes.append(
        (sail, [(mast - 0.015, 0.97), (mast - 0.015, boom), (stern * 0.85, boom), (stern * 0.5 - belly, 0.5)])
    )
    if rng.random() < 0.8:
        jib = sail if rng.random() < 0.6 else _pick(rng, SAILS)
        shapes.append((jib, [(mast + 0.015, rng.uniform(0.75, 0.95)), (bow * 0.95, 0.12), (mast + 0.03, 0.15)]))
    return _facing(rng, shapes)


def buoy(rng: np.random.Generator) -> list[Shape]:
    """A can, a cone, a pillar with a top mark or a ball; one unit high."""
    paint, build = _pick(rng, FLOATS), rng.choice(["can", "cone", "pillar", "ball"])
    band = _pick(rng, (*FLOATS, WHITE))
    if build == "ball":
        mast = [(DARK, _block(-0.025, 0.6, 0.025, 0.85)), (band, _disc(0, 0.9, 0.1))]
        return [*mast, (paint, _disc(0, 0.33, 0.36)), (band, _block(-0.34, 0.27, 0.34, 0.4))]
    if build == "can":
        shapes: list[Shape] = [(paint, _block(-0.26, 0, 0.26, 0.72)), (band, _block(-0.26, 0.3, 0.26, 0.48))]
        return [*shapes, (DARK, _block(-0.05, 0.72, 0.05, 0.86)), (paint, _block(-0.1, 0.84, 0.1, 1))]
    base: list[Shape] = [(paint, [(-0.34, 0), (0.34, 0), (0.3, 0.18), (-0.3, 0.18)])]
    if build == "cone":
        return [*base, (paint, [(-0.24, 0.18), (0.24, 0.18), (0.05, 0.84), (-0.05, 0.84)]), (band, _disc(0, 0.9, 0.1))]
    legs: list[Shape] = [
        (paint, [(side * 0.2, 0.18), (side * 0.13, 0.18), (side * 0.03, 0.74), (side * 0.08, 0.74)]) for side in (-1, 1)
    ]
    bars: list[Shape] = [(paint, _block(-0.15, low, 0.15, low + 0.05)) for low in (0.34, 0.52)]
    return [*base, *legs, *bars, (band, _block(-0.1, 0.72, 0.1, 0.82)), (paint, [(-0.12, 0.84), (0.12, 0.84), (0, 1)])]


def wind_turbine(rng: np.random.Generator) -> list[Shape]:
    """Tower on a yellow foot, nacelle and three blades at any angle; about one unit high."""
    paint = _pick(rng, ((236, 238, 240), (222, 226, 230)))
    hub, reach, turned = 0.64, rng.uniform(0.3, 0.37), rng.uniform(0, 2 * math.pi / 3)
    slim = rng.uniform(0.55, 1.0)  # a rotor seen from the side looks narrow
    shapes: list[Shape] = [((226, 178, 40), _block(-0.028, 0, 0.028, 0.1))]
    shapes.append((paint, [(-0.022, 0.1), (0.022, 0.1), (0.012, hub), (-0.012, hub)]))
    shapes.append((paint, _block(-0.025, hub - 0.015, 0.05, hub + 0.02)))
    for blade in range(3):
        turn = turned + blade * 2 * math.pi / 3
        along, across = (math.sin(turn), math.cos(turn)), (math.cos(turn), -math.sin(turn))
        outline = ((0.0, -0.008), (0.2, -0.022), (1.0, -0.003), (1.0, 0.003), (0.1, 0.012), (0.0, 0.008))
        points = [(a * reach * along[0] + c * across[0], a * reach * along[1] + c * across[1]) for a, c in outline]
        shapes.append((paint, [(x * slim, hub + y) for x, y in points]))
    shapes.append(((200, 204, 208), _disc(0, hub, 0.02)))
    return _facing(rng, shapes)


# Clutter: never labelled; a detector has to learn to leave it alone.


def hill(rng: np.random.Generator) -> list[Shape]:
    """Far land, one unit wide."""
    crest = np.convolve(rng.random(14), np.ones(3) / 3, "valid") * rng.uniform(0.08, 0.22)
    points = [(-0.5 + (i + 1) / 13, float(y)) for i, y in enumerate(crest)]
    return [(_pick(rng, ((90, 104, 96), (100, 108, 116), (112, 104, 92))), [(-0.5, 0), *points, (0.5, 0)])]


def rock(rng: np.random.Generator) -> list[Shape]:
    """A skerry, about two units wide."""
    crest = rng.uniform(0.2, 0.8, 6)
    points = [(-0.8 + 1.6 * (i + 1) / 7, float(y)) for i, y in enumerate(crest)]
    return [(_pick(rng, ((78, 74, 70), (96, 90, 82), (60, 62, 66))), [(-1, 0), *points, (1, 0)])]


def seagull(rng: np.random.Generator) -> list[Shape]:
    """Two wings, two units wide."""
    lift = rng.uniform(0.2, 0.6)
    wings = [
        (-1.0, lift * 0.7),
        (-0.5, lift),
        (0.0, 0.1),
        (0.5, lift),
        (1.0, lift * 0.7),
        (0.5, lift - 0.2),
        (0.0, -0.1),
    ]
    return [(_pick(rng, (WHITE, (110, 112, 118))), [*wings, (-0.5, lift - 0.2)])]


ARTISTS = {
    "ship": Artist(ship, span=(0.14, 0.75), rolls=1.5),
    "sailboat": Artist(sailboat, span=(0.1, 0.6), rolls=6.0),
    "buoy": Artist(buoy, span=(0.07, 0.35), rolls=8.0),
    "wind turbine": Artist(wind_turbine, span=(0.2, 0.9), rolls=0.0),
}
