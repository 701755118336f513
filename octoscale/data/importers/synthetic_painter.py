"""Paints an invented person's face, back to front, from anti-aliased shapes.

Lengths are half the side of the image: the crop spans −1…1 both ways, with the eyes near y = −0.1 and the
mouth near y = 0.5, as in a crop aligned by five points.
"""

import math

import numpy as np
from numpy.typing import NDArray

from octoscale.data.importers.synthetic_person import Beard, Floats, Glasses, HairStyle, Person, View, colour

_Box = tuple[slice, slice]
_EVERYWHERE: _Box = (slice(None), slice(None))
# Standard deviation of a uniformly distributed byte.
_BYTE_DEVIATION = 73.9


def paint_face(person: Person, view: View, rng: np.random.Generator, image_size: int) -> NDArray[np.uint8]:
    """One image of a person.

    Args:
        rng: gives the sensor's noise.
        image_size: side of the image, pixels.

    Returns:
        uint8 [image_size, image_size, 3], RGB.
    """
    painter = _Painter(person, view, image_size)
    painter.background_and_hair()
    painter.head()
    painter.beard()
    painter.nose()
    painter.mouth()
    for side in (-1, 1):
        painter.eye(side)
        painter.brow(side)
    painter.marks()
    painter.fringe()
    painter.glasses()
    return painter.photograph(rng)


class _Painter:
    """A canvas on which each method paints one part of a turned head over what is there."""

    def __init__(self, person: Person, view: View, image_size: int) -> None:
        self.person, self.view, self.size = person, view, image_size
        self.pixel = 2 / image_size / view.scale
        axis = (np.arange(image_size, dtype=np.float32) + 0.5) * (2 / image_size) - 1
        x, y = (axis[None, :] - view.shift_x) / view.scale, (axis[:, None] - view.shift_y) / view.scale
        self.cos_roll, self.sin_roll = math.cos(view.roll), math.sin(view.roll)
        # Coordinates of each pixel in the upright head's frame, [image_size, image_size].
        self.x: Floats = self.cos_roll * x + self.sin_roll * y
        self.y: Floats = self.cos_roll * y - self.sin_roll * x
        self.image: Floats = np.empty((3, image_size, image_size), np.float32)

    # Geometry and brushes

    def project(self, x: float, y: float, lift: float = 0.0) -> tuple[float, float, float]:
        """Where a point of the face lands when the head turns, and the factor by which widths there shrink.

        The head is an ellipsoid and `lift` the height above it, so that what stands out shifts more.
        """
        height = math.sqrt(max(0.08, 1 - (x / 0.95) ** 2 - (y / 1.25) ** 2))
        depth = 0.75 * (height - 0.75) + lift
        slope = -0.75 * x / 0.95**2 / height
        sine, cosine = math.sin(self.view.yaw), math.cos(self.view.yaw)
        turned_y = y * math.cos(self.view.pitch) + depth * math.sin(self.view.pitch)
        return x * cosine + depth * sine, turned_y, min(max(cosine + slope * sine, 0.45), 1.25)

    def around(self, x: float, y: float, width: float, height: float) -> tuple[_Box, Floats, Floats]:
        """The pixels within `width` and `height` of a point, and their coordinates relative to it."""
        view, half_size = self.view, self.size / 2
        cosine, sine = self.cos_roll * view.scale, self.sin_roll * view.scale

        def span(centre: float, reach: float) -> slice:
            low, high = (centre - reach + 1) * half_size - 1, (centre + reach + 1) * half_size + 2
            return slice(min(max(int(low), 0), self.size), min(max(int(high), 0), self.size))

        columns = span(cosine * x - sine * y + view.shift_x, cosine * width + abs(sine) * height)
        rows = span(sine * x + cosine * y + view.shift_y, cosine * height + abs(sine) * width)
        box = (rows, columns)
        return box, self.x[box] - x, self.y[box] - y

    def cover(self, distance: Floats, softness: float = 0.0) -> Floats:
        """Signed distance, negative inside, to coverage 0…1; `softness` is the width of the edge."""
        coverage: Floats = distance * (-1 / (self.pixel + softness))
        coverage += 0.5
        np.maximum(coverage, 0, out=coverage)
        np.minimum(coverage, 1, out=coverage)
        return coverage

    def blend(self, box: _Box, coverage: Floats, paint: Floats) -> None:
        """Mix `paint`, [3, 1, 1] or [3, height, width], into the box by coverage, [height, width]."""
        target = self.image[:, box[0], box[1]]
        change = paint - target
        change *= coverage
        target += change

    def oval(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        paint: Floats,
        opacity: float = 1.0,
        softness: float = 0.0,
    ) -> None:
        box, dx, dy = self.around(x, y, width + softness, height + softness)
        coverage = self.cover(_ellipse(dx, dy, width, height), softness)
        self.blend(box, coverage * opacity if opacity < 1 else coverage, paint)

    # The parts, back to front

    def background_and_hair(self) -> None:
        person, view = self.person, self.view
        self.image[:] = view.background
        self.image += view.background_x * self.x + view.background_y * self.y
        self.oval(0, 1.05, person.face_width * 0.75, 0.6, person.skin * 0.72)
        if person.hair_style == HairStyle.BALD:
            return
        x, y, _ = self.project(0, -0.15, -0.5)
        volume = person.hair_volume
        self.oval(x, y, person.face_width + volume * 0.8, person.face_height * 0.8 + volume, person.hair, softness=0.04)
        if person.hair_style == HairStyle.LONG:
            self.oval(x, y + 0.6, person.face_width + volume * 0.9, 1.2, person.hair, softness=0.04)

    def head(self) -> None:
        person, view = self.person, self.view
        for side in (-1, 1):
            x, y, _ = self.project(side * person.face_width * 0.98, person.eye_y + 0.12, -0.2)
            self.oval(x, y, 0.09, person.ear, person.skin * 0.86)
        x, y, _ = self.project(0, 0, -0.35)
        self.face_x, self.face_y = self.x - x, self.y - y
        chin = np.maximum(self.face_y, 0)
        narrowed_x = self.face_x / (1 - person.jaw * chin * chin)
        self.outline = _ellipse(narrowed_x, self.face_y, person.face_width, person.face_height)
        # Darker towards the outline, where the face turns away, and on the side away from the light.
        turning = np.clip(1 + 1.6 * self.outline, 0, 1.2)
        shade = 1.05 - 0.3 * turning * turning + view.light_x * self.face_x + view.light_y * self.face_y
        self.blend(_EVERYWHERE, self.cover(self.outline), shade * person.skin)
        for side in (-1, 1):
            x, y, shrink = self.project(side * 0.40, 0.24)
            self.oval(x, y, 0.16 * shrink, 0.13, person.skin * colour(1.05, 0.72, 0.70), person.cheek, softness=0.12)

    def beard(self) -> None:
        person = self.person
        if person.beard == Beard.NONE:
            return
        x, y, shrink = self.project(0, person.mouth_y)
        dx, dy = self.x - x, self.y - y
        width = person.mouth_width * shrink
        if person.beard == Beard.FULL:
            edge = -0.10 - dy - 0.5 * dx * dx
        elif person.beard == Beard.MOUSTACHE:
            arc = dy + 0.10 - 0.9 * dx * dx
            edge = np.maximum(np.abs(arc) - 0.045, np.abs(dx) - width)
        else:
            edge = np.maximum(0.06 - dy, np.abs(dx) - 0.8 * width)
        coverage = self.cover(np.maximum(edge, self.outline), 0.05)
        self.blend(_EVERYWHERE, coverage * person.beard_darkness, person.hair * 0.85)

    def nose(self) -> None:
        person, dark = self.person, self.person.skin * 0.70
        width, length, bridge = person.nose_width, person.nose_length, person.nose_bridge
        base_y = person.eye_y + length
        tip_x, tip_y, _ = self.project(0, base_y - 0.03, 0.12)
        root_x, root_y, _ = self.project(0, person.eye_y + 0.05, 0.04)
        x, y = (tip_x + root_x) / 2, (tip_y + root_y) / 2
        # The flank away from the light and the turn is shaded, the ridge shines.
        flank = -bridge if self.view.light_x > 0.4 * self.view.yaw else bridge
        self.oval(x + flank, y, bridge, length / 2, dark, 0.5, softness=0.06)
        self.oval(x, y, bridge / 2, length / 2, person.skin * 1.12, 0.5, softness=0.05)
        self.oval(tip_x, tip_y, width * 0.55, 0.07, person.skin * 1.08, 0.6, softness=0.05)
        for side in (-1, 1):
            x, y, shrink = self.project(side * width * 0.8, base_y - 0.01, 0.03)
            self.oval(x, y, width * 0.38 * shrink, 0.055, dark, 0.45, softness=0.04)
            x, y, shrink = self.project(side * width * 0.5, base_y + 0.015, 0.07)
            self.oval(x, y, width * 0.28 * shrink, 0.02, person.skin * 0.38, 0.85, softness=0.01)

    def mouth(self) -> None:
        person, view = self.person, self.view
        x, y, shrink = self.project(0, person.mouth_y, 0.04)
        width = person.mouth_width * (1 + 0.15 * view.smile) * shrink
        box, dx, dy = self.around(x, y, width, 0.2)
        t = dx / width  # −1…1 from corner to corner
        below = dy + 0.06 * view.smile * (t * t - 0.4)
        ends = np.abs(dx) - width
        taper = 1 - t * t
        gap = view.mouth_open * taper
        bow, paint = 1 - 0.45 * person.lip_bow * np.exp(-40 * t * t), person.skin * person.lip
        lower = np.maximum(np.maximum(below - person.lip_lower * taper - gap, -below), ends)
        upper = np.maximum(np.maximum(-below - person.lip_upper * taper * bow - gap, below), ends)
        self.blend(box, self.cover(lower), paint * 1.04)
        self.blend(box, self.cover(upper), paint * 0.86)
        self.blend(box, self.cover(np.maximum(np.abs(below) - gap - 0.006, ends)), paint * 0.35)
        if view.mouth_open > 0.03:
            teeth = np.maximum(np.abs(below + 0.5 * gap) - 0.4 * gap, ends)
            self.blend(box, self.cover(teeth), colour(225, 220, 208))

    def eye(self, side: int) -> None:
        person, view = self.person, self.view
        x, y, shrink = self.project(side * person.eye_x, person.eye_y)
        width, height = person.eye_width * shrink, person.eye_height * view.eye_open
        self.oval(x, y, width * 1.25, person.eye_height * 1.9, person.skin * 0.72, 0.45, softness=0.08)
        box, dx, dy = self.around(x, y, width, height + 0.1)
        dy = dy + side * person.eye_tilt * dx
        ends = np.abs(dx) - width
        taper = np.maximum(1 - (dx / width) ** 2, 0)
        above = -dy - height * taper
        opening = self.cover(np.maximum(np.maximum(above, dy - 0.75 * height * taper), ends))
        self.blend(box, opening, colour(232, 228, 222))
        gaze_x = dx - 0.05 * math.sin(view.yaw)
        radius = np.sqrt(gaze_x * gaze_x + dy * dy)
        self.blend(box, opening * self.cover(radius - person.iris_radius), person.iris)
        self.blend(box, opening * self.cover(radius - 0.42 * person.iris_radius), colour(14, 12, 12))
        glint = _ellipse(gaze_x + 0.02, dy + 0.02, 0.014, 0.014)
        self.blend(box, opening * self.cover(glint), colour(250, 250, 250))
        lash = np.maximum(np.abs(above) - 0.012 - 0.014 * person.eye_lid, ends)
        self.blend(box, self.cover(lash), person.skin * 0.22)
        crease = np.maximum(np.abs(above - 0.045) - 0.006, ends)
        self.blend(box, self.cover(crease) * (0.5 * person.eye_lid), person.skin * 0.5)

    def brow(self, side: int) -> None:
        person = self.person
        y = person.eye_y - person.brow_height - self.view.brow_raise
        x, y, shrink = self.project(side * person.eye_x * 1.03, y)
        width = person.brow_width * shrink
        box, dx, dy = self.around(x, y, width, 0.2)
        t = dx * (side / width)  # −1…1 from the inner to the outer end
        line = dy + person.brow_tilt * width * t + person.brow_arch * (1 - t * t)
        thickness = person.brow_thickness * (0.825 - 0.175 * t)
        coverage = self.cover(np.maximum(np.abs(line) - thickness, np.abs(dx) - width), 0.015)
        self.blend(box, coverage * person.brow_darkness, person.hair * 0.6)

    def marks(self) -> None:
        person = self.person
        for marks, paint, opacity in (
            (person.freckles, person.skin * colour(0.72, 0.55, 0.45), person.freckle_darkness),
            (person.moles, person.skin * colour(0.36, 0.26, 0.24), 0.9),
        ):
            for mark in marks:
                x, y, shrink = self.project(mark.x, mark.y)
                self.oval(x, y, mark.radius * shrink, mark.radius, paint, opacity)

    def fringe(self) -> None:
        person = self.person
        if person.hair_style == HairStyle.BALD:
            return
        _, line, _ = self.project(0, person.hair_line)
        x, y = self.face_x, self.y - line
        if person.hair_style == HairStyle.FRINGE:
            edge = y - 0.14 - 0.03 * np.sin(22 * x)
        elif person.hair_style == HairStyle.PARTED:
            edge = y + 0.05 - 0.75 * np.abs(x - person.hair_parting)
        else:
            edge = y - 0.9 * x * x
        scalp = _ellipse(x, self.face_y + 0.12, person.face_width + 0.04, person.face_height + person.hair_volume / 2)
        strands = 1 + 0.09 * np.sin(22 * x / np.maximum(self.face_y + 1.4, 0.3))
        self.blend(_EVERYWHERE, self.cover(np.maximum(edge, scalp), 0.02), strands * person.hair)

    def glasses(self) -> None:
        person = self.person
        if person.glasses == Glasses.NONE:
            return
        radius = person.glasses_radius
        for side in (-1, 1):
            x, y, shrink = self.project(side * person.eye_x, person.eye_y + 0.02, 0.08)
            box, dx, dy = self.around(x, y, radius * 1.25 + 0.04, radius)
            rim = _ellipse(dx, dy, radius * shrink, radius * 0.8)
            if person.glasses == Glasses.SQUARE:
                rim = np.maximum(np.abs(dx) - radius * shrink, np.abs(dy) - radius * 0.64)
            self.blend(box, self.cover(np.maximum(rim - 0.016, -rim - 0.016)), person.glasses_frame)
        x, y, _ = self.project(0, person.eye_y, 0.1)
        self.oval(x, y, max(person.eye_x - radius, 0.03), 0.016, person.glasses_frame)

    def photograph(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Light the scene, add the sensor's noise, cast to 8 bits."""
        view = self.view
        falloff = 1 + 0.5 * view.light_x * self.x + 0.5 * view.light_y * self.y
        image = self.image * (falloff * view.light)
        # Uniform bytes: ten times as fast as normal numbers, and no network cares.
        grain = rng.integers(0, 256, image.shape, np.uint8).astype(np.float32) - 127.5
        image += grain * (view.noise / _BYTE_DEVIATION)
        levels = np.clip(image, 0, 255, out=image).astype(np.uint8)
        return np.ascontiguousarray(levels.transpose(1, 2, 0))


def _ellipse(x: Floats, y: Floats, width: float, height: float) -> Floats:
    """Signed distance to an ellipse to first order: f·(f − 1) / |∇(f²)/2|, f = |(x / width, y / height)|."""
    a, b = x * (1 / width), y * (1 / height)
    squared = a * a + b * b
    a *= 1 / width
    b *= 1 / height
    slope = np.sqrt(a * a + b * b)
    distance: Floats = (squared - np.sqrt(squared)) / (slope + 1e-6)
    return distance
