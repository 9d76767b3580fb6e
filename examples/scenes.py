"""Draw pictures of the sea, with the boxes of what stands in it.

Everything is drawn by this code from a seed: no photograph, no foreign artwork. `train_detector.py` learns from these
pictures and keeps a few of them for the demo. Needs NumPy and Pillow.

    python examples/scenes.py --seed 7 --weather rough sea.jpg
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from artwork import ARTISTS, Colour, Shape, hill, rock, seagull
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

LABELS = tuple(ARTISTS)
Weather = Literal["fair", "rough"]
Floats = NDArray[np.float32]
Box = tuple[float, float, float, float]  # top, left, bottom, right

OVERSAMPLING = 3  # artwork is filled at three times its size, then reduced: smooth edges, honest small things
CROWDING = 0.25  # a thing may hide at most this share of another's box
ROCK = "rock"  # stands in the sea like a thing, but is none


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing in a scene. `box` is (top, left, bottom, right) in pixels of the picture."""

    label: str
    box: Box


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture (RGB) and what can be seen in it."""

    picture: Image.Image
    things: tuple[Thing, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where artwork stands on the canvas."""

    x: float  # of its middle, in pixels
    base: float  # of its waterline, in pixels from the top
    size: float  # of one unit, in pixels
    haze: float  # share of the air's colour over it
    tilt: float = 0.0  # its lean, in degrees


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the air, the sea and the camera do to a scene; every share lies in 0..1."""

    light: float  # 1 at noon, 0.25 deep in dusk
    warmth: float  # share of evening colour in sky and water
    haze: float  # share of the sky's colour over the farthest things
    swell: float  # contrast of the waves
    glitter: float  # strength of the sun's track on the water
    noise: float  # standard deviation of the camera's noise, in grey levels
    blur: float  # radius of the camera's blur, in pixels of a 640-pixel-wide picture
    rain: int  # streaks
    birds: int
    rocks: int
    hills: int


def draw_scene(seed: int, weather: Weather = "rough", size: tuple[int, int] = (640, 480)) -> Scene:
    """Draw the scene of a seed.

    Args:
        seed: the same seed, weather and size give the same scene.
        weather: "fair" is a bright, calm, empty day; "rough" is any light, haze, sea and clutter.
        size: width and height in pixels, each at least 64.

    Raises:
        ValueError: the size is too small to draw in.

    """
    width, height = size
    if min(size) < 64:
        raise ValueError(f"a scene needs at least 64×64 pixels, not {width}×{height}")
    rng = np.random.default_rng(seed)
    conditions = _conditions(rng, weather)
    horizon = int(height * rng.uniform(0.3, 0.5))
    canvas, air = _backdrop(rng, conditions, width, height, horizon)
    things = _populate(rng, conditions, canvas, air, horizon)
    return Scene(_camera(rng, conditions, canvas), tuple(things))


def _conditions(rng: np.random.Generator, weather: Weather) -> Conditions:
    if weather == "fair":
        return Conditions(
            light=rng.uniform(0.85, 1.0), warmth=0.0, haze=rng.uniform(0, 0.15), swell=rng.uniform(0.1, 0.4),
            glitter=0.0, noise=rng.uniform(0, 4), blur=0.0, rain=0, birds=0, rocks=0, hills=int(rng.integers(0, 2)),
        )  # fmt: skip
    return Conditions(
        light=rng.uniform(0.25, 1.0), warmth=_sometimes(rng, 0.35, 0, 1), haze=rng.uniform(0, 0.65),
        swell=rng.uniform(0.1, 1.0), glitter=_sometimes(rng, 0.5, 0.2, 1), noise=rng.uniform(0, 16),
        blur=_sometimes(rng, 0.35, 0.4, 1.4), rain=int(_sometimes(rng, 0.4, 50, 160)),
        birds=int(rng.integers(0, 6)), rocks=int(rng.integers(0, 4)), hills=int(rng.integers(0, 4)),
    )  # fmt: skip


def _sometimes(rng: np.random.Generator, chance: float, low: float, high: float) -> float:
    return rng.uniform(low, high) if rng.random() < chance else 0.0


# ── sky and sea ────────────────────────────────────────────────────────────────────────────────────────────────────


def _mix(a: Floats, b: Floats, share: float | Floats) -> Floats:
    return (a * (1 - share) + b * share).astype(np.float32)


def _colour(*channels: float) -> Floats:
    return np.array(channels, np.float32)


def _backdrop(
    rng: np.random.Generator, conditions: Conditions, width: int, height: int, horizon: int
) -> tuple[Image.Image, Floats]:
    """Sky with clouds and sun, sea with waves and glitter; also the air's colour, into which far things fade."""
    grey = rng.uniform(0, 1)
    zenith = _mix(_mix(_colour(70, 130, 205), _colour(150, 158, 168), grey), _colour(90, 70, 120), conditions.warmth)
    air = _mix(_mix(_colour(190, 215, 235), _colour(195, 200, 205), grey), _colour(245, 170, 110), conditions.warmth)
    near = _mix(_mix(_colour(15, 70, 100), _colour(60, 78, 84), grey), _colour(40, 35, 65), conditions.warmth)
    near = near + rng.uniform(-12, 12, 3).astype(np.float32)
    pixels = np.empty((height, width, 3), np.float32)
    pixels[:horizon] = _mix(zenith, air, np.linspace(0, 1, horizon, dtype=np.float32)[:, None, None])
    clouds = _clouds(rng, width, horizon)[..., None] * rng.uniform(0, 0.9)
    pixels[:horizon] = _mix(pixels[:horizon], _mix(air, _colour(255, 255, 255), 0.5), clouds)
    depth = np.linspace(0, 1, height - horizon, dtype=np.float32)
    far = _mix(near, air, 0.45 + 0.4 * conditions.haze)
    pixels[horizon:] = _mix(far, near, np.sqrt(depth)[:, None, None])
    pixels[horizon:] += _sea(rng, conditions, depth, width)[..., None] * _mix(near, _colour(255, 255, 255), 0.6) / 160
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), air


def _clouds(rng: np.random.Generator, width: int, horizon: int) -> Floats:
    """Soft patches in 0..1, flatter towards the horizon."""
    total = np.zeros((horizon, width), np.float32)
    for rows, columns, weight in ((3, 4, 0.6), (7, 8, 0.3), (16, 14, 0.15)):
        patch = Image.fromarray(rng.random((rows, columns), np.float32))
        total += weight * np.asarray(patch.resize((width, horizon), Image.Resampling.BICUBIC))
    softened: Floats = np.clip((total - 0.5) * 3, 0, 1)
    return softened


def _sea(rng: np.random.Generator, conditions: Conditions, depth: Floats, width: int) -> Floats:
    """Brightness that waves, white caps and the sun's track add to each pixel of the sea, about -40..120."""
    grain = rng.standard_normal((128, 128), dtype=np.float32)
    pattern = np.mean([np.roll(grain, shift, axis=1) for shift in range(6)], axis=0) * 2  # waves are wider than high
    nearness = depth[:, None] + 0.06
    rows = (40 / nearness).astype(np.int64) % 128
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    columns = (across * 40 / nearness + 4096).astype(np.int64) % 128
    waves = pattern[rows, columns]
    bright: Floats = waves * 22 * conditions.swell * np.sqrt(nearness)
    bright += np.where(waves > 2.1 - 0.5 * conditions.swell, 70 * conditions.swell * nearness, 0)
    sun = rng.uniform(-0.9, 0.9)
    track = np.exp(-(((across - sun) / (0.06 + 0.25 * nearness)) ** 2))
    bright += np.where(waves > 0.4, 110 * conditions.glitter * track, 0)
    return bright


# ── what stands in it ──────────────────────────────────────────────────────────────────────────────────────────────


def _populate(
    rng: np.random.Generator, conditions: Conditions, canvas: Image.Image, air: Floats, horizon: int
) -> list[Thing]:
    """Put things and clutter on the canvas, the farthest first, and return the things' boxes."""
    width, height = canvas.size
    for _ in range(conditions.hills):
        _put(canvas, hill(rng), Place(rng.uniform(0, width), horizon + 1, rng.uniform(0.1, 0.5) * width, 0.35), air)
    things: list[Thing] = []
    for base, label, size, x in sorted(_places(rng, conditions, width, height, horizon)):
        haze = conditions.haze * (1 - (base - horizon) / (height - horizon)) ** 1.5
        if label == ROCK:
            if not _crowded(things, (base - size, x - size, base, x + size)):
                _put(canvas, rock(rng), Place(x, base, size, haze), air)
            continue
        artist = ARTISTS[label]
        place = Place(x, base, size, haze, tilt=rng.normal(0, artist.rolls) * conditions.swell)
        box = _put(canvas, artist.draw(rng), place, air, things)
        if box is not None:
            things.append(Thing(label, box))
    for _ in range(conditions.birds):
        x, y, size = rng.uniform(0, width), rng.uniform(0.05, 0.8) * height, height * rng.uniform(0.008, 0.03)
        _put(canvas, seagull(rng), Place(x, y, size, 0.2), air)
    return things


def _places(
    rng: np.random.Generator, conditions: Conditions, width: int, height: int, horizon: int
) -> list[tuple[float, str, float, float]]:
    """Waterline, label, size of a unit and x of what is to stand in the sea: the nearer, the lower and the larger."""
    places = []
    for _ in range(int(rng.integers(2, 9))):
        label = str(rng.choice(LABELS))
        nearness = rng.uniform(0.03, 1) ** 2
        smallest, largest = ARTISTS[label].span
        size = height * (smallest + (largest - smallest) * nearness) * rng.uniform(0.85, 1.15)
        depth = np.clip(0.04 + 0.8 * nearness + rng.normal(0, 0.06), 0.02, 0.97)
        places.append((horizon + (height - horizon) * float(depth), label, size, rng.uniform(0.02, 0.98) * width))
    for _ in range(conditions.rocks):
        nearness = rng.uniform(0.05, 1) ** 2
        base = horizon + (height - horizon) * (0.03 + 0.9 * nearness)
        places.append((base, ROCK, height * (0.02 + 0.12 * nearness), rng.uniform(0, width)))
    return places


def _put(
    canvas: Image.Image, shapes: list[Shape], place: Place, air: Floats, others: list[Thing] | None = None
) -> Box | None:
    """Fill shapes onto the canvas.

    Returns the box of the pixels that landed inside the canvas. With `others`: None, and nothing drawn, if less than
    two thirds of the whole would be inside or if it would crowd one of them.
    """
    width, height = canvas.size
    x, base, size = place.x, place.base, place.size
    cos, sin = math.cos(math.radians(place.tilt)), math.sin(math.radians(place.tilt))
    turned = [(colour, [(px * cos - py * sin, px * sin + py * cos) for px, py in points]) for colour, points in shapes]
    xs = [px for _, points in turned for px, _ in points]
    ys = [py for _, points in turned for _, py in points]
    left, top = math.floor(x + min(xs) * size) - 1, math.floor(base - max(ys) * size) - 1
    right, bottom = math.ceil(x + max(xs) * size) + 1, math.ceil(base - min(ys) * size) + 1
    inner = (max(top, 0), max(left, 0), min(bottom, height), min(right, width))
    share = max(inner[2] - inner[0], 0) * max(inner[3] - inner[1], 0) / ((bottom - top) * (right - left))
    if not share or (others is not None and (share < 2 / 3 or _crowded(others, inner))):
        return None
    scale = size * OVERSAMPLING
    layer = Image.new("RGBA", ((right - left) * OVERSAMPLING, (bottom - top) * OVERSAMPLING))
    pen = ImageDraw.Draw(layer)
    for colour, points in turned:
        tint: Colour = tuple(int(c * (1 - place.haze) + a * place.haze) for c, a in zip(colour, air, strict=True))  # type: ignore[assignment]
        origin_x, origin_y = (x - left) * OVERSAMPLING, (base - top) * OVERSAMPLING
        pen.polygon([(origin_x + px * scale, origin_y - py * scale) for px, py in points], fill=(*tint, 255))
    layer = layer.reduce(OVERSAMPLING)
    _reflect(canvas, layer, left, bottom, place.haze)
    canvas.paste(layer, (left, top), layer)
    visible = layer.getchannel("A").crop((inner[1] - left, inner[0] - top, inner[3] - left, inner[2] - top))
    solid = visible.point([0] * 96 + [255] * 160).getbbox()
    if solid is None:
        return None
    return (
        float(inner[0] + solid[1]), float(inner[1] + solid[0]), float(inner[0] + solid[3]), float(inner[1] + solid[2]),
    )  # fmt: skip


def _reflect(canvas: Image.Image, layer: Image.Image, left: int, bottom: int, haze: float) -> None:
    """The water under a thing mirrors it faintly, a third as high."""
    size = (layer.width, max(1, layer.height // 3))
    mirrored = layer.transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize(size, Image.Resampling.BILINEAR)
    faint = mirrored.getchannel("A").point([int(a * 0.3 * (1 - haze)) for a in range(256)])
    canvas.paste(mirrored, (left, bottom - 2), faint.filter(ImageFilter.BoxBlur(1)))


def _crowded(others: list[Thing], box: Box) -> bool:
    area = (box[2] - box[0]) * (box[3] - box[1])
    for other in others:
        top, left, bottom, right = other.box
        shared = max(min(box[2], bottom) - max(box[0], top), 0) * max(min(box[3], right) - max(box[1], left), 0)
        if shared > CROWDING * min(area, (bottom - top) * (right - left)):
            return True
    return False


# ── the camera ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _camera(rng: np.random.Generator, conditions: Conditions, canvas: Image.Image) -> Image.Image:
    """Rain, blur, little light and noise: what lies between the scene and the file."""
    width, height = canvas.size
    pen = ImageDraw.Draw(canvas, "RGBA")
    slant = rng.uniform(-0.4, 0.4)
    for _ in range(conditions.rain):
        x, y, length = rng.uniform(0, width), rng.uniform(0, height), height * rng.uniform(0.02, 0.07)
        pen.line([(x, y), (x + slant * length, y + length)], fill=(215, 220, 230, 90), width=1)
    if conditions.blur:
        canvas = canvas.filter(ImageFilter.GaussianBlur(conditions.blur * width / 640))
    pixels = np.asarray(canvas, np.float32) * conditions.light
    pixels *= 1 + rng.uniform(-0.06, 0.06, 3).astype(np.float32)  # white balance is never quite right
    if conditions.noise:
        pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * conditions.noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw one scene into a picture file and print what is in it.")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weather", choices=("fair", "rough"), default="rough")
    arguments = parser.parse_args()
    scene = draw_scene(arguments.seed, arguments.weather)
    scene.picture.save(arguments.picture, quality=90)
    for thing in scene.things:
        print(thing.label, [round(edge, 1) for edge in thing.box])


if __name__ == "__main__":
    main()
