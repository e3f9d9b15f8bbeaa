"""The built-in sample: drawn scenes of objects on grounds, with labels, so nothing is downloaded.

A ground is told by its texture and place, an object by its outline. Colors are drawn anew for every
scene, so they tell neither. Everything is a function of the seed (for given NumPy and OpenCV).
"""

import colorsys
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy import ndarray
from numpy.random import Generator

GROUNDS = ('sky', 'hills', 'water', 'grass', 'sand', 'tiles')
THINGS: tuple[str, ...] = ('ball', 'box', 'cone', 'ring', 'star', 'tree')
CLASSES: tuple[str, ...] = GROUNDS + THINGS  # the index is the label value
PALETTE: list[tuple[int, int, int]] = [
    (135, 190, 235), (130, 115, 150), (45, 105, 190), (95, 165, 75), (225, 200, 130),
    (160, 160, 160), (225, 60, 60), (150, 90, 45), (245, 140, 30), (190, 70, 190),
    (250, 225, 50), (20, 95, 60),
]  # fmt: skip
DRAWING = 1  # raise it when the drawing changes: samples drawn before are then redone


@dataclass(frozen=True)
class Instance:
    """The visible part of one object."""

    category: str  # one of THINGS
    polygons: list[ndarray]  # each (n ≥ 3, 2) float32: x, y of pixel corners; disjoint, no holes
    box: tuple[int, int, int, int]  # x, y, width, height in pixels
    area: int  # visible pixels


@dataclass(frozen=True)
class Scene:
    """A picture and everything there is to know about it."""

    image: ndarray  # (H, W, 3) uint8 RGB
    labels: ndarray  # (H, W) uint8, index into CLASSES
    objects: ndarray  # (H, W) uint8, 1 + index into `instances`, 0 where no object is
    instances: list[Instance]  # far to near


@dataclass
class _Thing:
    """An object placed in the picture; arrays cover its `window` of the picture only."""

    kind: str
    window: tuple[slice, slice]
    u: ndarray  # own coordinates, in radii
    v: ndarray
    distance: ndarray  # signed distance to the outline in radii, negative inside
    rounding: float  # how deep the edge is rounded, in radii
    cover: ndarray  # 0..1, anti-aliased
    foot: float | None  # y of the point where it stands, in pixels; None when it floats
    visible: ndarray | None = None  # (H, W) bool


def draw_scene(seed: int, *, size: tuple[int, int] = (160, 160)) -> Scene:
    """Draw the scene of a seed (0 or more); equal seeds and sizes give equal scenes.

    `size` is (H, W) in pixels, at least 32 each; shapes and textures scale with the short side.
    Raises ValueError for a negative seed or a smaller size.
    """
    if min(size) < 32 or seed < 0:
        raise ValueError(f'size={size}, seed={seed}: needs at least 32 × 32 pixels and a seed ≥ 0')
    rng = np.random.default_rng((seed, DRAWING))
    unit = min(size) / 160  # pixels; lengths below are in units unless they say pixels
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32) / unit
    pigments = _pigments(rng)
    image, labels, horizon = _paint_grounds(rng, pigments, x, y)
    things = _keep_visible(_place_things(rng, x, y, horizon), size, min_area=60 * unit**2)
    light = np.array([rng.choice([-1, 1]) * rng.uniform(0.4, 1), -rng.uniform(0.4, 0.9), 0.8])
    light = (light / np.linalg.norm(light)).astype(np.float32)
    objects = np.zeros_like(labels)
    for number, thing in enumerate(things, 1):
        if thing.foot is not None:
            _cast_shadow(image, thing, light, ground=y > horizon, blur=1.6 * unit)
        _paint_thing(rng, pigments, image, thing, light)
        labels[thing.visible], objects[thing.visible] = CLASSES.index(thing.kind), number
    picture = _photograph(rng, image, x, y)
    return Scene(picture, labels, objects, [_instance(thing) for thing in things])


def _pigments(rng: Generator) -> Iterator[tuple[ndarray, ndarray]]:
    """Endless (dark, light) pairs of RGB (3, 1, 1), 0..1; golden-ratio steps keep hues apart."""
    hue = rng.random()
    while True:
        hue += 0.382 + rng.normal(0, 0.04)
        saturation, value = rng.uniform(0.1, 0.65), rng.uniform(0.6, 1)
        light = colorsys.hsv_to_rgb(hue % 1, 0.8 * saturation, value)
        value *= rng.uniform(0.45, 0.72)
        dark = colorsys.hsv_to_rgb((hue + rng.normal(0, 0.05)) % 1, 1.2 * saturation, value)
        yield np.float32(dark)[:, None, None], np.float32(light)[:, None, None]


def _noise(rng: Generator, x: ndarray, wave: tuple[float, float], octaves: int = 2) -> ndarray:
    """Fractal value noise in 0..1 shaped as `x` (H, W); the largest blobs are `wave` (H, W)."""
    unit = float(x[0, 1] - x[0, 0])
    total = np.zeros(x.shape, np.float32)
    for octave in range(octaves):
        cells = [2 + int(n * unit * 2**octave / w) for n, w in zip(x.shape, wave, strict=True)]
        grid = rng.random(cells, dtype=np.float32)
        total += 0.6**octave * cv2.resize(grid, x.shape[::-1], interpolation=cv2.INTER_CUBIC)
    total -= total.min()
    return total / total.max()


def _texture(name: str, rng: Generator, x: ndarray, y: ndarray, depth: ndarray) -> ndarray:
    """The brightness of a ground, about 0..1, (H, W); `depth` shrinks tiles and ripples far off."""
    if name == 'sky':  # brighter downwards, smooth clouds
        clouds = 3 * _noise(rng, x, (26, 75), 3) - rng.uniform(1.3, 2.2)
        return y / 110 + 0.6 * np.clip(clouds, 0, 1)
    if name == 'hills':  # veins
        return 1.1 * (1 - np.abs(2 * _noise(rng, x, (22, 22), 4) - 1)) ** 2
    if name == 'water':  # streaks along the horizon
        return 1.6 * _noise(rng, x, (5, 60)) ** 2 + 0.2 * _noise(rng, x, (40, 90), 1)
    if name == 'grass':  # upright blades
        return 0.65 * _noise(rng, x, (12, 3)) + 0.4 * _noise(rng, x, (40, 60))
    if name == 'sand':  # ripples
        bend = rng.uniform(1, 4) * _noise(rng, x, (50, 60)) + rng.uniform(-0.02, 0.02) * x
        ripples = np.sin(2 * np.pi * (rng.uniform(7, 11) * np.log(depth) + bend))
        return 0.5 + 0.33 * ripples + 0.3 * (_noise(rng, x, (3, 3), 1) - 0.5)
    across, along = (x - rng.uniform(40, 120)) / depth, 100 / depth
    turn, pitch = rng.uniform(0, np.pi), rng.uniform(0.12, 0.2)
    a = np.sin(pitch * (across * np.cos(turn) + along * np.sin(turn)))
    b = np.sin(pitch * (along * np.cos(turn) - across * np.sin(turn)))
    return np.clip(0.5 + 3 * a * b, 0.05, 0.95) + 0.25 * (_noise(rng, x, (6, 6)) - 0.5)


def _paint_grounds(
    rng: Generator, pigments: Iterator[tuple[ndarray, ndarray]], x: ndarray, y: ndarray
) -> tuple[ndarray, ndarray, ndarray]:
    """Sky, perhaps hills, one or two grounds: image (3, H, W) 0..1, labels, horizon's y (H, W)."""
    horizon = y[-1, 0] * rng.uniform(0.22, 0.48) + rng.normal(0, 0.05) * (x - x.mean())
    near, far = rng.choice(GROUNDS[2:], 2, replace=False)
    wave = 14 * np.sin(x / rng.uniform(18, 45) + rng.uniform(0, 6))
    border = rng.uniform(65, 130) + rng.uniform(-0.9, 0.9) * (x - x.mean()) + wave
    regions = [('sky', horizon - 1000), (far, horizon)]  # each from its upper border downwards
    if rng.random() < 0.65:
        ridge = 55 * _noise(rng, x[:1], (1, 60), 3) - 8  # (1, W)
        regions.insert(1, ('hills', horizon - ridge))
    if rng.random() < 0.6:
        regions.append((near, np.maximum(border, horizon + 8)))
    depth = np.maximum(y - horizon, 0) / 60 + 0.25  # 0.25 at the horizon, more towards the viewer
    image, labels = np.zeros((3, *x.shape), np.float32), np.zeros(x.shape, np.uint8)
    for name, upper in regions:
        dark, light = next(pigments)
        contrast = rng.uniform(0.4, 0.9) * (light - dark)
        paint = light + contrast * (_texture(name, rng, x, y, depth) - 1)  # (3, H, W)
        cover = np.clip((y - upper) / (x[0, 1] - x[0, 0]) + 0.5, 0, 1)  # anti-aliased
        image += cover * (paint - image)
        labels[cover > 0.5] = CLASSES.index(name)
    return image, labels, horizon


def _outline(kind: str, u: ndarray, v: ndarray, form: float) -> tuple[ndarray, float]:
    """An object's signed distance at u, v (v down) in radii, and how deep its edge is rounded.

    `form` in 0..1 varies the shape within its kind. A disk rounded to its middle is a sphere.
    """
    radius, angle = np.hypot(u, v), np.arctan2(u, -v)
    if kind == 'ball':
        return radius - 0.9, 0.9
    if kind == 'box':
        return np.maximum(np.abs(u) - (0.5 + 0.4 * form), np.abs(v) - 0.85), 0.12
    if kind == 'cone':
        base, height = 0.5 + 0.4 * form, 1.85
        side = (np.abs(u) * height - base * (v + 1)) / np.hypot(base, height)
        return np.maximum(side, v - 0.85), 0.5
    if kind == 'ring':
        return np.abs(radius - 0.68) - (0.17 + 0.1 * form), 0.25
    if kind == 'star':
        sector, notch = np.pi / 5, 0.4 + 0.15 * form
        angle = np.abs((angle + sector) % (2 * sector) - sector)  # folded onto half a point
        a, b = notch * np.cos(sector) - 1, notch * np.sin(sector)  # edge from the tip to the notch
        side = b * (radius * np.cos(angle) - 1) - a * radius * np.sin(angle)
        return side / np.hypot(a, b), 0.3
    lobes = np.cos((5 + int(4 * form)) * np.arctan2(u, -v - 0.3))
    trunk = np.maximum(np.abs(u) - 0.15, np.abs(v - 0.45) - 0.5)
    return np.minimum(np.hypot(u, v + 0.3) - 0.6 - 0.07 * lobes, trunk), 0.45


def _place_things(rng: Generator, x: ndarray, y: ndarray, horizon: ndarray) -> list[_Thing]:
    """Two to six objects, far to near; nearer ones are larger, every fifth floats."""
    unit, right, bottom = 1 / (x[0, 1] - x[0, 0]), x.max(), y.max()
    line, things = float(horizon.mean()), []
    for foot in np.sort(rng.uniform(line + 8, bottom + 4, rng.integers(2, 7))):
        radius = (10 + 22 * (foot - line) / (bottom - line)) * rng.uniform(0.75, 1.3)
        floats = rng.random() < 0.2
        center_y = rng.uniform(15, line + 10) if floats else foot - 0.88 * radius
        center_x = rng.uniform(8, right - 8)
        turn = rng.uniform(-np.pi, np.pi) if rng.random() < 0.3 else rng.normal(0, 0.2)
        reach = np.array([-1.25, 1.25]) * radius
        rows = np.clip((center_y + reach) * unit + (0, 1), 0, len(x)).astype(int)
        columns = np.clip((center_x + reach) * unit + (0, 1), 0, len(x[0])).astype(int)
        window = slice(*rows), slice(*columns)
        a, b = (x[window] - center_x) / radius, (y[window] - center_y) / radius
        u, v = a * np.cos(turn) + b * np.sin(turn), b * np.cos(turn) - a * np.sin(turn)
        kind = str(rng.choice(THINGS))
        distance, rounding = _outline(kind, u, v, form=rng.random())
        cover = np.clip(0.5 - distance * radius * unit, 0, 1)
        foot_pixels = None if floats else foot * unit
        things.append(_Thing(kind, window, u, v, distance, rounding, cover, foot_pixels))
    return things


def _keep_visible(things: list[_Thing], size: tuple[int, int], min_area: float) -> list[_Thing]:
    """Set what is visible of each object; leave out those of which too little (pixels) is."""
    hidden, kept = np.zeros(size, bool), []
    for thing in reversed(things):  # near to far: an object left out hides nothing
        full = np.zeros(size, bool)
        full[thing.window] = thing.cover > 0.5
        thing.visible = full & ~hidden
        if thing.visible.sum() >= max(min_area, 0.3 * full.sum()):
            hidden |= full
            kept.append(thing)
    return kept[::-1]


def _cast_shadow(
    image: ndarray, thing: _Thing, light: ndarray, ground: ndarray, blur: float
) -> None:
    """Darken the `ground` (H, W) where the outline falls when laid down away from the light."""
    outline = np.zeros(ground.shape, np.float32)
    outline[thing.window] = thing.cover
    lean, flat = -light[0], 0.3  # a point h above the foot falls lean·h aside and flat·h behind
    shear = np.float32([[1, -lean, lean * thing.foot], [0, flat, (1 - flat) * thing.foot]])
    shadow = cv2.warpAffine(outline, shear, outline.shape[::-1])
    image *= 1 - 0.5 * cv2.GaussianBlur(shadow, (0, 0), blur) * ground


def _pattern(rng: Generator, u: ndarray, v: ndarray) -> ndarray:
    """The texture of an object, about 0..1; it turns with the object and does not tell its kind."""
    pitch = rng.uniform(6, 13)
    a, b = np.sin(pitch * u + rng.uniform(0, 6)), np.sin(pitch * v + rng.uniform(0, 6))
    plain, checks, dots = np.full_like(u, 0.6), 0.5 + 3 * a * b, 3 * (a + b) - 2.5
    pattern = [plain, 0.5 + 2 * a, checks, dots, 0.5 + 0.35 * (a + b)][rng.integers(5)]
    grain = cv2.resize(rng.random((9, 9), np.float32), u.shape[::-1]) - 0.5
    return np.clip(pattern, 0, 1) + rng.uniform(0, 0.5) * grain


def _paint_thing(
    rng: Generator,
    pigments: Iterator[tuple[ndarray, ndarray]],
    image: ndarray,
    thing: _Thing,
    light: ndarray,
) -> None:
    """Blend the object into `image`: its pattern, lit as if its edge were rounded off."""
    color, other = next(pigments)[1], next(pigments)[rng.integers(2)]
    paint = other + (color - other) * _pattern(rng, thing.u, thing.v)  # (3, h, w)
    down, across = np.gradient(thing.distance)
    slope = np.clip(1 + thing.distance / thing.rounding, 0, 1)  # 1 at the edge, 0 on the flat top
    lean = slope / np.maximum(np.hypot(down, across), 1e-6)
    facing = lean * (across * light[0] + down * light[1]) + np.sqrt(1 - slope**2) * light[2]
    facing = np.clip(facing, 0, 1)
    paint = paint * (0.4 + 0.75 * facing) + rng.uniform(0, 0.5) * facing**24  # matt + gloss
    patch = image[(slice(None), *thing.window)]
    patch += thing.cover * (paint - patch)


def _photograph(rng: Generator, image: ndarray, x: ndarray, y: ndarray) -> ndarray:
    """Exposure, warmth, light falling off to a side, gamma, sensor noise: (H, W, 3) uint8."""
    warmth, aside, below = rng.normal(0, 0.06), rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2)
    tint = rng.uniform(0.85, 1.15) * np.float32([1 + warmth, 1, 1 - warmth])[:, None, None]
    fall = 1 + aside * (x / x.max() - 0.5) + below * (y / y.max() - 0.5)
    noise = rng.uniform(0.005, 0.025) * rng.standard_normal(image.shape, np.float32)
    raw = (np.clip(image * fall * tint + noise, 0, 1) * 255 + 0.5).astype(np.uint8)
    gamma = (np.linspace(0, 1, 256) ** rng.uniform(0.75, 1.2) * 255 + 0.5).astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(raw.transpose(1, 2, 0)), gamma)


def _instance(thing: _Thing) -> Instance:
    x, y, width, height = (int(n) for n in cv2.boundingRect(thing.visible.astype(np.uint8)))
    part = thing.visible[y : y + height, x : x + width].astype(np.uint8)
    polygons = [polygon + np.float32([x, y]) for polygon in _polygons(part)]
    return Instance(thing.kind, polygons, (x, y, width, height), int(part.sum()))


def _polygons(mask: ndarray) -> list[ndarray]:
    """Outlines (n, 2) of a uint8 mask (H, W) along pixel edges; it is cut in two at a hole."""
    double = np.pad(mask.repeat(2, 0).repeat(2, 1), 2)
    outlines, nesting = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for outline, (*_, parent) in zip(outlines, nesting[0], strict=True):
        if parent >= 0:  # a hole, which COCO polygons cannot have
            column = (int(outline[..., 0].min() + outline[..., 0].max()) // 2 - 2) // 2
            left, right = mask.copy(), mask.copy()
            left[:, column:], right[:, :column] = 0, 0
            return _polygons(left) + _polygons(right)
    # At twice the size, odd coordinates are the right or lower half of a pixel: outwards is up.
    outlines = [cv2.approxPolyDP((outline - 1) // 2, 0.6, True)[:, 0] for outline in outlines]
    return [outline.astype(np.float32) for outline in outlines if len(outline) >= 3]
