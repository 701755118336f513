"""What an invented person looks like, and the circumstances in which an image of them was taken.

Part of an identity is coarse (hair, face shape, beard) and part of it spans one to four pixels of 112 (moles,
freckles, iris, eye and brow shape), so that low resolution costs identity but not all of it. Light and its
colour vary more from image to image than skin does from person to person, so overall colour tells little.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class HairStyle(IntEnum):
    BALD, SHORT, FRINGE, PARTED, LONG = range(5)


class Beard(IntEnum):
    NONE, FULL, MOUSTACHE, GOATEE = range(4)


class Glasses(IntEnum):
    NONE, ROUND, SQUARE = range(3)


def colour(*rgb: float) -> Floats:
    """An RGB colour (0–255) or a factor of one: float32 [3, 1, 1]."""
    return np.array(rgb, np.float32).reshape(3, 1, 1)


_SKIN_LIGHT, _SKIN_DARK = colour(236, 198, 174), colour(112, 74, 54)
_HAIR = (
    colour(26, 22, 22),
    colour(70, 46, 30),
    colour(112, 76, 46),
    colour(198, 164, 104),
    colour(140, 66, 34),
    colour(164, 160, 158),
)
_IRIS = (colour(58, 36, 22), colour(104, 68, 34), colour(70, 104, 62), colour(72, 112, 164), colour(120, 134, 142))
_FRAME = (colour(22, 22, 26), colour(120, 60, 34), colour(150, 150, 156), colour(60, 40, 96))


@dataclass(frozen=True)
class Mark:
    """A mole or a freckle: a position on the face and a radius."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Person:
    """What all images of a person share.

    Lengths are half the side of the image, x to the right and y down from its centre; angles are slopes;
    colours are float32 [3, 1, 1] on 0–255.
    """

    skin: Floats
    face_width: float
    face_height: float
    jaw: float  # 0: an oval; larger: more pointed
    cheek: float  # redness
    ear: float
    eye_x: float
    eye_y: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    eye_lid: float
    iris: Floats
    iris_radius: float
    brow_height: float  # above the eye
    brow_width: float
    brow_thickness: float
    brow_tilt: float
    brow_arch: float
    brow_darkness: float
    nose_width: float
    nose_length: float
    nose_bridge: float
    mouth_y: float
    mouth_width: float
    lip: Floats
    lip_upper: float
    lip_lower: float
    lip_bow: float
    hair: Floats
    hair_style: HairStyle
    hair_line: float
    hair_volume: float
    hair_parting: float
    beard: Beard
    beard_darkness: float
    glasses: Glasses
    glasses_radius: float
    glasses_frame: Floats
    moles: tuple[Mark, ...]
    freckles: tuple[Mark, ...]
    freckle_darkness: float


@dataclass(frozen=True)
class View:
    """What changes from image to image of a person. Angles in radians, lengths and colours as in `Person`."""

    yaw: float
    pitch: float
    roll: float
    scale: float
    shift_x: float
    shift_y: float
    light_x: float
    light_y: float
    light: Floats  # intensity × colour temperature, a factor
    background: Floats
    background_x: float  # slope, levels per unit of length
    background_y: float
    smile: float
    mouth_open: float
    brow_raise: float
    eye_open: float
    noise: float  # standard deviation, levels


def draw_person(rng: np.random.Generator) -> Person:
    """The person that this generator stands for."""
    u = rng.uniform
    hair = _HAIR[rng.choice(len(_HAIR), p=[0.25, 0.25, 0.20, 0.12, 0.08, 0.10])]
    freckled = u() < 0.35
    return Person(
        skin=_SKIN_LIGHT + (_SKIN_DARK - _SKIN_LIGHT) * u(0, 1) ** 1.5 + colour(*rng.normal(0, 6, 3)),
        face_width=u(0.64, 0.80),
        face_height=u(0.92, 1.06),
        jaw=u(0.05, 0.42),
        cheek=u(0, 0.35),
        ear=u(0.10, 0.19),
        eye_x=u(0.29, 0.39),
        eye_y=u(-0.15, -0.07),
        eye_width=u(0.125, 0.18),
        eye_height=u(0.045, 0.085),
        eye_tilt=u(-0.25, 0.25),
        eye_lid=u(0, 1),
        iris=_IRIS[rng.integers(len(_IRIS))] + colour(*rng.normal(0, 8, 3)),
        iris_radius=u(0.055, 0.075),
        brow_height=u(0.15, 0.25),
        brow_width=u(0.14, 0.22),
        brow_thickness=u(0.016, 0.052),
        brow_tilt=u(-0.3, 0.3),
        brow_arch=u(0, 0.07),
        brow_darkness=u(0.45, 0.95),
        nose_width=u(0.08, 0.17),
        nose_length=u(0.30, 0.44),
        nose_bridge=u(0.03, 0.07),
        mouth_y=u(0.48, 0.58),
        mouth_width=u(0.17, 0.30),
        lip=colour(u(0.72, 1.0), u(0.45, 0.75), u(0.45, 0.78)),
        lip_upper=u(0.018, 0.06),
        lip_lower=u(0.03, 0.085),
        lip_bow=u(0, 1),
        hair=np.clip(hair * u(0.8, 1.2) + colour(*rng.normal(0, 5, 3)), 8, 230),
        hair_style=HairStyle(rng.choice(5, p=[0.08, 0.27, 0.20, 0.20, 0.25])),
        hair_line=u(-0.78, -0.52),
        hair_volume=u(0.06, 0.26),
        hair_parting=u(-0.5, 0.5),
        beard=Beard(rng.choice(4, p=[0.64, 0.14, 0.11, 0.11])),
        beard_darkness=u(0.25, 0.85),
        glasses=Glasses(rng.choice(3, p=[0.76, 0.12, 0.12])),
        glasses_radius=u(0.19, 0.26),
        glasses_frame=_FRAME[rng.integers(len(_FRAME))],
        moles=tuple(Mark(u(-0.5, 0.5), u(-0.45, 0.8), u(0.018, 0.04)) for _ in range(rng.integers(5))),
        freckles=tuple(
            Mark(rng.normal(0, 0.3), rng.normal(0.12, 0.13), u(0.01, 0.02))
            for _ in range(rng.integers(12, 30) if freckled else 0)
        ),
        freckle_darkness=u(0.3, 0.6),
    )


def draw_view(rng: np.random.Generator) -> View:
    """The circumstances that this generator stands for."""
    u, normal = rng.uniform, rng.normal
    intensity, warmth, tint = u(-0.55, 0.22), normal(0, 0.12), normal(0, 0.05)
    return View(
        yaw=min(max(normal(0, 0.22), -0.5), 0.5),
        pitch=min(max(normal(0, 0.12), -0.25), 0.25),
        roll=normal(0, 0.06),
        scale=u(0.95, 1.06),
        shift_x=u(-0.05, 0.05),
        shift_y=u(-0.05, 0.05),
        light_x=normal(0, 0.28),
        light_y=normal(-0.1, 0.16),
        light=colour(*(math.exp(intensity + cast) for cast in (warmth, tint, -warmth))),
        background=u(30, 220) + colour(*normal(0, 26, 3)),
        background_x=u(-40, 40),
        background_y=u(-40, 40),
        smile=u(-0.25, 1),
        mouth_open=max(0.0, normal(-0.01, 0.035)),
        brow_raise=u(-0.03, 0.05),
        eye_open=u(0.6, 1.15),
        noise=u(2, 7),
    )
