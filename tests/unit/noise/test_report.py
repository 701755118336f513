"""The ledger for people: CSV, JSON, table and picture."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from octoscale.data.index import Index
from octoscale.data.reader import ImageReader
from octoscale.data.storage import Store
from octoscale.noise.figure import draw_pairs, image_name
from octoscale.noise.ledger import Ledger
from octoscale.noise.report import PAIR_COLUMNS, SAMPLE_COLUMNS, render, write_ledger
from octoscale.noise.survey import Survey

Packed = tuple[Index, ImageReader]


@pytest.fixture
def written(found: Survey, mislabelled: Packed, tmp_path: Path) -> Path:
    write_ledger(found, *mislabelled, Store(str(tmp_path / "noise")), top=2)
    return tmp_path / "noise"


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_the_pairs_are_rows_of_a_csv_file(found: Survey, written: Path) -> None:
    pairs = rows(written / "pairs.csv")

    assert len(pairs) == len(found.ledger.pairs)
    assert tuple(pairs[0]) == PAIR_COLUMNS
    misfiled = next(row for row in pairs if row["kind"] == "misfiled image")
    assert (misfiled["identity_a"], misfiled["identity_b"]) == ("person_02", "person_03")
    assert misfiled["culprit"] == "person_03/02_4.png"
    assert float(misfiled["negative_distance"]) < 0.95 * float(misfiled["positive_distance"])
    same = next(row for row in pairs if row["kind"] == "same person")
    assert (same["identity_a"], same["identity_b"], same["culprit"]) == ("again", "person_01", "")


def test_the_samples_are_rows_of_a_csv_file(written: Path) -> None:
    first = rows(written / "samples.csv")[0]

    assert tuple(first) == SAMPLE_COLUMNS
    assert (first["image"], first["identity"], first["suggested_identity"]) == (
        "person_03/02_4.png", "person_03", "person_02",
    )  # fmt: skip


def test_json_holds_the_same_and_how_it_was_found(found: Survey, mislabelled: Packed, written: Path) -> None:
    document = json.loads((written / "noise.json").read_text())

    assert document["survey"]["epochs"] == 20
    assert document["survey"]["fingerprint"] == mislabelled[0].fingerprint
    as_text = [{key: str(value) for key, value in pair.items()} for pair in document["pairs"]]
    assert as_text == rows(written / "pairs.csv")
    assert len(document["samples"]) == len(found.ledger.samples)


def test_every_column_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs/noise.md").read_text()

    named = set(re.findall(r"`(\w+)`", text))
    assert {*PAIR_COLUMNS, *SAMPLE_COLUMNS} <= named


def test_the_table_shows_the_first_pairs_and_what_was_searched(found: Survey, mislabelled: Packed) -> None:
    console = Console(width=80, record=True, file=io.StringIO())

    console.print(render(found, mislabelled[0], top=2))

    text = console.export_text()
    for expected in ("the first 2 of", "same person", "misfiled image", "person_03/02_4.png", "batches of 30"):
        assert expected in text
    assert "raise --batch" not in text


def test_batches_that_meet_few_pairs_are_told(found: Survey, mislabelled: Packed) -> None:
    sparse = Survey(found.ledger, 4, 1, 10, 0.95, 40, 0.02, 0.7)
    console = Console(width=80, record=True, file=io.StringIO())

    console.print(render(sparse, mislabelled[0], top=2))

    assert "raise --batch or --epochs" in console.export_text()


def test_an_image_is_named_as_its_file(mislabelled: Packed) -> None:
    index, _ = mislabelled
    first = int(index.identity_offsets[index.identity_keys.index("person_05")])

    assert [image_name(index, first + offset) for offset in (0, 5, 6)] == [
        "person_05/05_1.png", "person_05/05_6.png", "person_06/06_1.png",
    ]  # fmt: skip


@pytest.mark.parametrize(("count", "width"), [(0, 594), (1, 594), (2, 1188), (3, 1782), (7, 1782)])
def test_pairs_are_drawn_three_to_a_row(found: Survey, mislabelled: Packed, count: int, width: int) -> None:
    assert len(found.ledger.pairs) >= 7

    picture = Image.open(io.BytesIO(draw_pairs(found.ledger.pairs[:count], *mislabelled)))

    # 2.2 inches per row and 0.8 for the heading, at 110 dots per inch.
    assert picture.size == (width, round(110 * (2.2 * -(-count // 3) + 0.8)))


def test_an_empty_ledger_is_written_with_its_columns(found: Survey, mislabelled: Packed, tmp_path: Path) -> None:
    empty = Survey(Ledger((), ()), 30, 1, 1, 0.95, 30, 1.0, found.stranger_distance)

    write_ledger(empty, *mislabelled, Store(str(tmp_path)), top=5)

    assert (tmp_path / "pairs.csv").read_text() == ",".join(PAIR_COLUMNS) + "\n"
    assert (tmp_path / "samples.csv").read_text() == ",".join(SAMPLE_COLUMNS) + "\n"
