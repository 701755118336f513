"""Octuplets and suspected mislabels: images of the run's own data, or a line that says why there are none."""

import base64
import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from octoscale.distributed.world import World
from octoscale.feed import open_data
from octoscale.noise.report import write_ledger
from octoscale.noise.survey import survey
from octoscale.report.charts import Lines
from octoscale.report.images import face_uri
from octoscale.report.items import Faces, Item, Missing, Picture, Table
from octoscale.report.mislabels import mislabels_section
from octoscale.report.octuplets import octuplets_section
from octoscale.report.runs import Run, read_run
from octoscale.showcase import mine_octuplets
from octoscale.trained import load_trained
from tests.unit.report.made_up import made_up_run


def image_of(uri: str) -> Image.Image:
    header, _, content = uri.partition(",")
    assert header == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


@pytest.fixture(scope="module")
def octuplets(trained_run: Path) -> tuple[Item, ...]:
    return octuplets_section([read_run(str(trained_run), "run")]).items


def test_the_first_octuplet_is_drawn_as_in_the_paper(octuplets: tuple[Item, ...]) -> None:
    picture = octuplets[0]

    assert isinstance(picture, Picture)
    assert image_of(picture.image).width > 1000
    assert "hhh: d(a,p)" in picture.alt


def test_octuplets_are_images_high_and_low_with_their_distances(octuplets: tuple[Item, ...], trained_run: Path) -> None:
    faces = octuplets[1]
    assert isinstance(faces, Faces)
    trained = load_trained(str(trained_run))
    expected = mine_octuplets(trained.network, trained.config, count=6)

    assert len(faces.groups) == len(faces.numbers.rows) == 6
    labels = ["anchor", "positive", "hhh", "lhh", "anchor", "positive", "hll", "lll"]
    assert all([face.label for face in group.faces] == labels for group in faces.groups)
    assert faces.groups[0].faces[6].alt == "octuplet 1: hardest negative of hll, low resolution"
    assert faces.groups[0].faces[6].image == face_uri(expected[0].low[expected[0].negatives["hll"]])
    assert faces.groups[0].faces[0].image == face_uri(expected[0].high[expected[0].anchor])
    assert faces.numbers.rows[0][:3] == ("1", *(f"{value:.4g}" for value in expected[0].distances["hhh"]))


def test_octuplets_are_of_different_people(trained_run: Path) -> None:
    trained = load_trained(str(trained_run))

    found = mine_octuplets(trained.network, trained.config, count=99, most_images=8)

    assert sorted(one.anchor // 2 for one in found) == [0, 1, 2, 3]
    assert all(len(one.high) == 8 for one in found)


def test_several_runs_share_the_octuplets(trained_run: Path) -> None:
    runs = [read_run(str(trained_run), name) for name in ("a", "b")]

    groups = [len(item.groups) for item in octuplets_section(runs).items if isinstance(item, Faces)]

    assert groups == [3, 3]


def test_a_run_whose_network_is_gone_says_what_octuplets_need() -> None:
    (missing,) = octuplets_section([made_up_run()]).items

    assert isinstance(missing, Missing)
    assert "nowhere/run holds no checkpoint" in missing.why


@pytest.fixture(scope="module")
def with_ledger(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The trained run with a ledger of its data set."""
    trained = load_trained(str(trained_run))
    data = open_data(trained.config)
    # An untrained network confuses many people.
    found = survey(trained.network, data.index, data.reader, device=World().device, epochs=2, alpha=1.0)
    folder = tmp_path_factory.mktemp("noise")
    write_ledger(found, data.index, data.reader, Store(str(folder / "noise")), top=1)
    (folder / "config.yaml").write_text((trained_run / "config.yaml").read_text())
    return read_run(str(folder), "run")


def test_suspected_mislabels_are_shown_with_their_images(with_ledger: Run) -> None:
    assert with_ledger.noise is not None
    pairs = with_ledger.noise["pairs"]
    (faces,) = mislabels_section([with_ledger]).items

    assert isinstance(faces, Faces)
    assert len(faces.groups) == min(12, len(pairs)) > 0
    assert [face.label for face in faces.groups[0].faces] == ["positive", "anchor", "negative"]
    assert faces.groups[0].faces[1].alt == f"anchor: {pairs[0]['anchor']}"
    culprits = [pair["culprit_sample_id"] for pair in pairs[:12]]
    marked = [any(face.marked for face in group.faces) for group in faces.groups]
    assert all(culprit != "" for culprit, mark in zip(culprits, marked, strict=True) if mark)
    assert [row[0] for row in faces.numbers.rows] == [str(pair["rank"]) for pair in pairs[:12]]
    assert faces.numbers.rows[0][3:5] == (pairs[0]["identity_a"], pairs[0]["identity_b"])


def test_their_data_set_is_reached_as_the_report_was_told(with_ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = []
    monkeypatch.setattr(
        "octoscale.report.mislabels.open_data", lambda config: reached.append(config.storage) or open_data(config)
    )
    mislabels_section([replace(with_ledger, storage=StorageConfig(connections=3))])
    assert reached == [StorageConfig(connections=3)]


def test_a_ledger_of_another_data_set_is_a_table_alone(with_ledger: Run) -> None:
    assert with_ledger.noise is not None
    other = replace(with_ledger, noise=with_ledger.noise | {"survey": {"fingerprint": "other"}})

    table, missing = mislabels_section([other]).items

    assert isinstance(table, Table)
    assert isinstance(missing, Missing)
    assert "another data set" in missing.why


def test_a_ledger_whose_data_set_is_gone_is_a_table_alone(with_ledger: Run) -> None:
    gone = replace(with_ledger, values=with_ledger.values | {"data": {"url": "nowhere"}})

    _, missing = mislabels_section([gone]).items

    assert isinstance(missing, Missing)
    assert "cannot be read" in missing.why


def test_a_run_without_a_ledger_says_how_to_make_one_and_shows_what_training_saw() -> None:
    chart, missing = mislabels_section([made_up_run()]).items

    assert isinstance(chart, Lines)
    assert chart.table().rows[0] == ("1", "12.50")
    assert isinstance(missing, Missing)
    assert "octoscale noise RUN --output RUN/noise" in missing.why


def test_large_images_are_made_smaller() -> None:
    assert image_of(face_uri(torch.zeros(3, 300, 300, dtype=torch.uint8))).size == (112, 112)
    assert image_of(face_uri(torch.zeros(3, 32, 32, dtype=torch.uint8))).size == (32, 32)
