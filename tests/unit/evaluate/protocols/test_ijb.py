"""IJB's text files."""

from pathlib import Path

import numpy as np
import pytest

from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols.ijb import read_ijb

# Template 7 has a photo and two frames of a video; template 3 has another image of the same medium.
FACES = "1.jpg 7 100\n2.jpg 7 200\n3.jpg 7 200\n4.jpg 3 200\n"
PAIRS = "7 3 1\n3 7 0\n"
LANDMARKS = "".join(f"{k}.jpg {' '.join(map(str, range(10)))} 0.{k}\n" for k in range(1, 5))


def write(folder: Path, *, faces: str = FACES, pairs: str = PAIRS, landmarks: str | None = None) -> str:
    (folder / "ijbc_face_tid_mid.txt").write_text(faces)
    (folder / "ijbc_template_pair_label.txt").write_text(pairs)
    if landmarks is not None:
        (folder / "ijbc_name_5pts_score.txt").write_text(landmarks)
    return str(folder)


def test_templates_media_and_pairs_are_numbered(tmp_path: Path) -> None:
    templates = read_ijb(write(tmp_path), "ijbc")

    assert templates.images == ("1", "2", "3", "4")
    # Templates in ascending order: 3 is row 0, 7 is row 1. A medium of two templates is one of each.
    assert templates.media.tolist() == [1, 2, 2, 0]
    assert templates.template.tolist() == [0, 1, 1]
    assert (templates.first.tolist(), templates.second.tolist()) == ([1, 0], [0, 1])
    assert templates.same.tolist() == [True, False]
    assert templates.landmarks is None
    assert templates.scores is None
    assert templates.count == 2


def test_landmarks_and_scores_are_those_of_the_images(tmp_path: Path) -> None:
    templates = read_ijb(write(tmp_path, landmarks=LANDMARKS), "ijbc")

    assert templates.landmarks is not None
    assert templates.scores is not None
    assert templates.landmarks.shape == (4, 5, 2)
    assert templates.landmarks[0, 1].tolist() == [2.0, 3.0]
    np.testing.assert_allclose(templates.scores, [0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"faces": "1.jpg 7\n"}, r"line 1 of .*'1.jpg 7'; expected 'IMAGE TEMPLATE MEDIA'"),
        ({"faces": ""}, "lists no images"),
        ({"pairs": "7 9 1\n3 7 0\n"}, "template 9 is in a pair"),
        ({"pairs": "7 3 1\n3 7 1\n"}, "lists 2 genuine and 0 impostor pairs: verification needs both kinds"),
        ({"pairs": "7 3\n"}, "line 1 of .*label.* is '7 3'; expected 'TEMPLATE TEMPLATE LABEL'"),
        ({"pairs": "7 3 1\n#3 7 0\n3 7 0\n"}, "line 2 of .* is '#3 7 0'; expected"),
        ({"pairs": "7 3 1 # 0\n"}, "line 1 of .* is '7 3 1 # 0'; expected"),
        ({"pairs": "7 3 1\n\n3 7 0\n"}, "line 2 of .* is ''; expected"),
        ({"pairs": "7 3 1\n3 7\n"}, "line 2 of .* is '3 7'; expected"),
        ({"pairs": f"7 3 1\n3 {10**20} 0\n"}, "line 2 of .*; expected"),
        ({"pairs": ""}, "lists no pairs of templates"),
        ({"pairs": "7 3 1\n3 7 2\n"}, "line 2 of .* is '3 7 2'; expected .* the label 1 or 0"),
        ({"faces": FACES.replace(" 7 ", f" {10**20} ")}, "line 1 of .*expected 'IMAGE TEMPLATE MEDIA'"),
        ({"landmarks": LANDMARKS.replace("2.jpg", "\n2.jpg")}, "line 2 of .* is ''; expected 2, ten numbers"),
        ({"landmarks": LANDMARKS.replace("0.2", "high")}, "line 2 of .*; expected 2, ten numbers and a score"),
        ({"landmarks": LANDMARKS.replace("0.2", "nan")}, "line 2 of .*; expected 2, ten numbers and a score"),
        ({"pairs": "7 3 x\n"}, "line 1 of .* is '7 3 x'; expected 'TEMPLATE TEMPLATE LABEL'"),
        ({"landmarks": LANDMARKS.replace("2.jpg", "9.jpg")}, r"line 2 of .*; expected 2, ten numbers and a score"),
        ({"landmarks": "".join(LANDMARKS.splitlines(keepends=True)[:3])}, "has 3 lines for 4 images"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(OctoscaleError, match=message):
        read_ijb(write(tmp_path, **files), "ijbc")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=r"ijbb_face_tid_mid\.txt"):
        read_ijb(write(tmp_path), "ijbb")
