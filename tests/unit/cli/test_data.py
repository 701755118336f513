"""pack, index and inspect as a user calls them."""

import io
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from octoscale.data.index import Index
from tests.unit.commands import Octoscale, refused
from tests.unit.data.conftest import encode
from tests.unit.data.importers.record_writer import write_insightface


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Ten identities of three images."""
    for person in range(10):
        (tmp_path / f"faces/person {person}").mkdir(parents=True)
        for image in range(3):
            (tmp_path / f"faces/person {person}/{image}.jpg").write_bytes(encode(3 * person + image))
    return tmp_path / "faces"


def test_a_list_is_packed_aligned_and_split(call: Octoscale, faces: Path, tmp_path: Path) -> None:
    paths = sorted(faces.glob("*/*.jpg"))
    points = "\t4\t6\t12\t6\t8\t9\t5\t12\t11\t12"
    lines = [f"{path.relative_to(faces)}\t{path.parent.name}{points}" for path in paths]
    (tmp_path / "list.txt").write_text("\n".join([*lines, f"gone.jpg\tperson 1{points}"]))

    answer = call(
        "pack", tmp_path / "list.txt", tmp_path / "out", "--root", faces, "--align", "--split", "validation=0.3"
    )

    assert answer.code == 0, answer
    assert "excluded image gone.jpg: there is no such file\n" in answer.err
    train, validation = Index.load(tmp_path / "out/train"), Index.load(tmp_path / "out/validation")
    assert f"packed {len(train)} images of {train.identity_count} identities, 112 px, into 1 shards" in answer.out
    assert f", at {tmp_path / 'out'}/validation\n" in answer.out
    assert len(train) + len(validation) == 30
    assert train.image_size == 112


def test_record_files_and_tables_are_known_by_their_names(call: Octoscale, faces: Path, tmp_path: Path) -> None:
    people = [[path.read_bytes() for path in sorted(folder.iterdir())] for folder in sorted(faces.iterdir())]
    write_insightface(tmp_path / "records", people)
    rows = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in sorted(faces.glob("*/*"))]
    (tmp_path / "faces.csv").write_text("\n".join(["file,who", *rows]))

    assert "packed 30 images of 10" in call("pack", tmp_path / "records", tmp_path / "one").out
    answer = call("pack", tmp_path / "faces.csv", tmp_path / "two", "--path-column", "file", "--identity-column", "who")
    assert "packed 30 images of 10" in answer.out
    assert (tmp_path / "one/shards/shard-000000.tar").read_bytes() == (
        tmp_path / "two/shards/shard-000000.tar"
    ).read_bytes()
    refused(call("pack", tmp_path / "records", tmp_path / "x", "--format", "folder"), "no identity folders")
    refused(call("pack", tmp_path / "records", tmp_path / "x", "--format", "tar"), "'tar' is not known", "recordio")
    refused(call("pack", faces, tmp_path / "x", "--root", faces), "belongs to lists and tables")


def test_a_noise_ledger_is_left_out(call: Octoscale, faces: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(
        "rank,kind,identity_a,identity_b,culprit\n1,misfiled image,person 1,person 2,person 2/0.jpg\n"
        "2,same person,person 3,person 4,\n3,misfiled image,person 1,x,x/1.jpg\n"
    )

    answer = call("pack", faces, tmp_path / "out", "--exclude", tmp_path / "pairs.csv", "--min-images", 3)

    assert answer.code == 0, answer
    assert "packed 24 images of 8 identities" in answer.out
    assert "excluded image person 2/0.jpg: excluded by pairs.csv\n" in answer.err
    assert "excluded identity person 2: 2 good of 3 images; an identity needs 3\n" in answer.err
    assert "excluded identity person 4: excluded by pairs.csv\n" in answer.err
    assert "not in the source, of --exclude: 1: x/1.jpg\n" in answer.err


def test_without_landmarks_nothing_is_aligned(call: Octoscale, faces: Path, tmp_path: Path) -> None:
    refused(call("pack", faces, tmp_path / "out", "--align"), "has no landmarks to align by", "ten numbers")


def test_a_picture_of_gigabytes_is_left_out(call: Octoscale, faces: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("1", (9000, 9000)).save(buffer, "png")
    (faces / "person 1/bomb.png").write_bytes(buffer.getvalue())

    answer = call("pack", faces, tmp_path / "out")

    assert "excluded image person 1/bomb.png: the image is 9000×9000: more than 67,108,864 pixels\n" in answer.err


def test_shards_are_indexed_and_inspected(call: Octoscale, faces: Path, tmp_path: Path) -> None:
    shutil.copy(faces / "person 1/0.jpg", faces / "person 2/again.jpg")
    shutil.copy(faces / "person 1/1.jpg", faces / "person 1/again.jpg")
    assert call("pack", faces, tmp_path / "packed").code == 0
    (tmp_path / "shards").mkdir()
    shutil.copy(tmp_path / "packed/shards/shard-000000.tar", tmp_path / "shards/a.tar")

    answer = call("index", tmp_path / "shards")
    assert answer.code == 0, answer
    assert f"indexed 32 images of 10 identities, 16 px, in 1 shards, 0.1 MiB, at {tmp_path / 'shards'}\n" in answer.out
    refused(call("index", tmp_path / "shards"), "already has an index", "--overwrite")
    assert call("index", tmp_path / "shards", "--overwrite").code == 0

    answer = call("inspect", tmp_path / "packed", "--figures", tmp_path / "figures")
    assert "duplicates            1 images are there again under the same identity, 1 under another\n" in answer.out
    assert "Warning: 1 images stand under several identities" in answer.out
    assert "  person 1/0.jpg (person 1) = person 2/again.jpg (person 2)\n" in answer.out
    for name in ("images_per_identity", "contact_sheet"):
        with Image.open(tmp_path / f"figures/{name}.png") as image:
            image.load()

    document = json.loads(call("inspect", tmp_path / "shards", "--json").out)
    assert (document["images"], document["identities"], document["images_per_identity"]["max"]) == (32, 10, 4)
    assert [len(group) for group in document["duplicates"]["across"]] == [2]
    assert sum(item["images"] for item in document["images_per_identity"]["histogram"]) == 32


def test_an_interrupted_packing_says_how_to_go_on(call: Octoscale, faces: Path, tmp_path: Path) -> None:
    (tmp_path / "out/packing").mkdir(parents=True)
    (tmp_path / "out/packing/settings.json").write_text('{"settings": {}, "replaced": [], "fingerprints": {}}')

    refused(call("pack", faces, tmp_path / "out"), "from an interrupted packing", "--resume", "--overwrite")
    refused(call("pack", faces, tmp_path / "out", "--resume"), "is another one", "shard_bytes was None")
    assert "packed 30 images" in call("pack", faces, tmp_path / "out", "--overwrite").out
