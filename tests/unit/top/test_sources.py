"""Where a run's figures are found."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from octoscale.top.sources import source_of
from tests.unit.top.conftest import line, trained


def test_the_targets_in_a_runs_directory_lead_to_all_ranks(directory: Path) -> None:
    with trained(directory) as ranks:
        ranks.steps(1)
        seen = source_of(str(directory)).look(5)

    assert [number for number, _ in seen.scrapes] == [0, 1]
    assert [scrape.fault for _, scrape in seen.scrapes] == [None, None]
    assert (seen.steps, seen.is_live, seen.source) == (100, True, str(directory / "telemetry/targets"))


def test_targets_in_a_folder_that_the_configuration_names(directory: Path, tmp_path: Path) -> None:
    with trained(directory, folder=str(tmp_path / "shared")) as ranks:
        ranks.steps(1)
        seen = source_of(str(directory)).look(5)

    assert len(seen.scrapes) == 2
    assert seen.source == str(tmp_path / "shared/targets")


def test_an_address_is_asked_itself(directory: Path) -> None:
    with trained(directory, world_size=1) as ranks:
        ranks.steps(1)
        (target,) = (directory / "telemetry/targets").iterdir()
        ((address,),) = (entry["targets"] for entry in json.loads(target.read_text()))
        for run in (address, f"http://{address}", f"http://{address}/metrics"):
            seen = source_of(run).look(5)
            assert [(number, scrape.fault) for number, scrape in seen.scrapes] == [(None, None)]


def test_without_ranks_the_last_line_of_its_file_tells(directory: Path) -> None:
    with trained(directory, recorders=["jsonl"]) as ranks:
        ranks.steps(2)
        ranks.commit_and_evaluate()
        ranks.steps(1)
    with (directory / "telemetry/metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "octoscale_lo')

    seen = source_of(str(directory)).look(5)

    ((number, scrape),) = seen.scrapes
    assert (number, seen.is_live, seen.source) == (0, False, str(directory / "telemetry/metrics.jsonl"))
    values = {
        (sample.name, sample.labels.get("term"), sample.labels.get("resolution")): sample.value
        for sample in scrape.samples
    }
    assert values["octoscale_step", None, None] == 3
    assert values["octoscale_loss", "lll", None] == 0.25
    assert values["octoscale_evaluation_accuracy_ratio", None, "112"] == 0.9875


def test_without_that_the_journal_tells(directory: Path) -> None:
    with trained(directory, recorders=[]):
        pass
    (directory / "steps").mkdir()
    (directory / "steps/00000001.jsonl").write_text(json.dumps(asdict(line(1))) + "\n")
    (directory / "steps/00000003.jsonl").write_text("".join(json.dumps(asdict(line(step))) + "\n" for step in (2, 3)))

    seen = source_of(str(directory)).look(5)

    ((_, scrape),) = seen.scrapes
    assert not seen.is_live
    values = {(sample.name, sample.labels.get("term")): sample.value for sample in scrape.samples}
    assert values["octoscale_step", None] == 3
    assert values["octoscale_triplet_active_ratio", "lll"] == 0.75


def test_a_run_that_has_written_nothing_yet_is_looked_at_all_the_same(directory: Path) -> None:
    with trained(directory, recorders=[]):
        assert source_of(str(directory)).look(5).scrapes == []


@pytest.mark.parametrize("text", ["", "no json\n", '{"step": 1}\n'])
def test_a_journal_that_makes_no_sense_is_told_and_raises_nothing(directory: Path, text: str) -> None:
    with trained(directory, recorders=[]):
        pass
    (directory / "steps").mkdir()
    (directory / "steps/00000001.jsonl").write_text(text)

    ((_, scrape),) = source_of(str(directory)).look(5).scrapes

    assert scrape.fault == "its last line makes no sense"


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    for run in (str(tmp_path), str(tmp_path / "absent")):
        with pytest.raises(OctoscaleError, match=r"is no run: .* give a run's directory, or HOST:PORT"):
            source_of(run)


def test_a_longest_wait_that_is_given_has_time_for_one_try(directory: Path) -> None:
    with pytest.raises(OctoscaleError, match="is no run"):
        source_of("memory://nowhere/run", StorageConfig(timeout_seconds=30))
