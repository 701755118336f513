"""A made-up data set of drawn faces, to try everything without a download. No real person is in it."""

from itertools import combinations
from pathlib import Path

import numpy as np
import simplejpeg

from octoscale.data.importers.synthetic_painter import paint_face
from octoscale.data.importers.synthetic_person import draw_person, draw_view
from octoscale.errors import OctoscaleError

FOLDS = 10
_JPEG_QUALITY = 92
_NOTE = """\
This data set is synthetic: a program drew every face in it (octoscale, seed {seed}).
No real person is shown, and no accuracy on it says anything about real faces.

train/   {train} identities x {train_images} images, {size} x {size} pixels
verify/  {verify} other identities x {verify_images} images
verify/pairs.txt   {pairs} pairs in the form of LFW's pairs.txt: {folds} folds of {per_fold} genuine and {per_fold}
         impostor pairs; no identity is in two folds
"""

_Pair = tuple[int, int, int, int]  # identity, image, identity, image; images count from 1


def write_synthetic_faces(
    directory: str | Path,
    *,
    identities: int,
    images_per_identity: int,
    verify_identities: int = 0,
    verify_images_per_identity: int = 6,
    verify_pairs: int = 30,
    seed: int = 0,
    image_size: int = 112,
) -> None:
    """Draw a training set, and a verification set of other identities.

    Writes ``train/synthetic_0001/synthetic_0001_0001.jpg`` and so on, ``verify/`` in the same form with
    ``verify/pairs.txt``, and ``SYNTHETIC.txt``, which says what this is. Each file is a pure function of the
    arguments; a person's images depend on the seed, the person's number and `image_size` alone.

    Args:
        directory: where to write; made if it does not exist, and must be empty if it does.
        identities, images_per_identity: size of the training set.
        verify_identities, verify_images_per_identity: size of the verification set; 0 identities for none.
        verify_pairs: genuine pairs in each of the 10 folds; there are as many impostor pairs.
        seed: any non-negative integer.
        image_size: side of the square images, pixels.

    Raises:
        OctoscaleError: a number that makes no data set, more pairs than the verification set has, or
            `directory` holds something.
    """
    directory = Path(directory)
    counts = {
        "identities": identities,
        "images_per_identity": images_per_identity,
        "verify_images_per_identity": verify_images_per_identity,
        "verify_pairs": verify_pairs,
        "image_size": image_size,
    }
    for name, count in counts.items():
        if count < 1:
            raise OctoscaleError(f"{name} is {count}; it must be at least 1")
    if verify_identities < 0 or seed < 0:
        raise OctoscaleError(f"verify_identities is {verify_identities} and seed {seed}; neither may be negative")
    people = range(1, identities + 1)
    strangers = range(identities + 1, identities + verify_identities + 1)
    pairs = _draw_pairs(strangers, verify_images_per_identity, verify_pairs, seed) if verify_identities else ""
    if directory.exists() and any(directory.iterdir()):
        raise OctoscaleError(f"{directory} is not empty; give a new directory or remove what is in it")

    _write_people(directory / "train", people, images_per_identity, seed, image_size)
    if verify_identities:
        _write_people(directory / "verify", strangers, verify_images_per_identity, seed, image_size)
        (directory / "verify" / "pairs.txt").write_text(pairs)
    note = _NOTE.format(
        seed=seed,
        size=image_size,
        train=identities,
        train_images=images_per_identity,
        verify=verify_identities,
        verify_images=verify_images_per_identity,
        pairs=2 * FOLDS * verify_pairs,
        folds=FOLDS,
        per_fold=verify_pairs,
    )
    (directory / "SYNTHETIC.txt").write_text(note)


def _name(identity: int) -> str:
    return f"synthetic_{identity:04d}"


def _write_people(folder: Path, people: range, images: int, seed: int, image_size: int) -> None:
    for number in people:
        person = draw_person(np.random.default_rng([seed, number]))
        person_folder = folder / _name(number)
        person_folder.mkdir(parents=True)
        for image in range(1, images + 1):
            rng = np.random.default_rng([seed, number, image])
            pixels = paint_face(person, draw_view(rng), rng, image_size)
            encoded = simplejpeg.encode_jpeg(pixels, quality=_JPEG_QUALITY, colorspace="RGB")
            (person_folder / f"{_name(number)}_{image:04d}.jpg").write_bytes(encoded)


def _draw_pairs(people: range, images: int, per_fold: int, seed: int) -> str:
    """The text of pairs.txt: in each fold `per_fold` genuine, then `per_fold` impostor pairs, no pair twice."""
    lines = [f"{FOLDS}\t{per_fold}"]
    # The stream [seed, 0] is free: people count from 1.
    rng = np.random.default_rng([seed, 0])
    for fold in np.array_split(np.array(people), FOLDS):
        genuine, impostor = _all_pairs(fold.tolist(), images)
        if min(len(genuine), len(impostor)) < per_fold:
            raise OctoscaleError(
                f"{len(people)} verify_identities of {images} images give a fold of {len(fold)} identities, with "
                f"{len(genuine)} genuine and {len(impostor)} impostor pairs, not {per_fold} of each; "
                f"raise verify_identities (at least {2 * FOLDS}) or lower verify_pairs"
            )
        chosen = rng.choice(len(genuine), per_fold, replace=False)
        lines += [f"{_name(a)}\t{i}\t{j}" for a, i, _, j in (genuine[row] for row in chosen)]
        chosen = rng.choice(len(impostor), per_fold, replace=False)
        lines += [f"{_name(a)}\t{i}\t{_name(b)}\t{j}" for a, i, b, j in (impostor[row] for row in chosen)]
    return "\n".join(lines) + "\n"


def _all_pairs(people: list[int], images: int) -> tuple[list[_Pair], list[_Pair]]:
    """Every genuine and every impostor pair of these people."""
    taken = [(person, image) for person in people for image in range(1, images + 1)]
    pairs = [(*first, *second) for first, second in combinations(taken, 2)]
    return [pair for pair in pairs if pair[0] == pair[2]], [pair for pair in pairs if pair[0] != pair[2]]
