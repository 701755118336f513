"""How far a cell is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError
from octoscale.models.network import PreprocessingConfig
from octoscale.reproduce.cells import Cell, before_and_after_cell
from octoscale.reproduce.found import differences, look
from tests.unit.reproduce.conftest import Finish, base_config, made_up

BENCHMARK = {"benchmarks": {"calfw": {"pairs": "p", "images": "i"}}}


def cell_of(folder: str, **changes: Any) -> Cell:
    return before_and_after_cell(base_config(**changes), folder)


def test_nothing_is_missing_and_a_whole_run_is_finished(sweep_folder: str, finish: Finish) -> None:
    cell = cell_of(sweep_folder)
    assert look(cell).status == "missing"

    finish(cell, 0.9)

    found = look(cell)
    assert (found.status, set(found.before), set(found.after)) == ("finished", {"lfw"}, {"lfw"})
    assert (found.before["lfw"].step, found.after["lfw"].step) == (0, 100)


@pytest.mark.parametrize("absent", ["weights.pt", "evaluations/00000100.json"])
def test_a_run_without_its_end_is_unfinished(sweep_folder: str, finish: Finish, absent: str) -> None:
    cell = cell_of(sweep_folder)
    finish(cell, 0.9)
    Store(cell.config.directory).delete(absent)

    found = look(cell)
    assert (found.status, found.trained, found.after) == ("unfinished", False, {})


def test_an_evaluation_on_the_way_is_not_the_end(sweep_folder: str, finish: Finish) -> None:
    cell = cell_of(sweep_folder)
    finish(cell, 0.9)
    store = Store(cell.config.directory)
    store.delete("evaluations/00000100.json")
    store.write("evaluations/00000050.json", made_up(50, 0.8).to_json().encode())
    assert look(cell).status == "unfinished"


def test_a_run_in_epochs_ends_where_it_ends(sweep_folder: str, finish: Finish) -> None:
    cell = cell_of(sweep_folder, steps=None, epochs=2)
    finish(cell, 0.9)
    assert (look(cell).status, look(cell).after["lfw"].step) == ("finished", 6)


def test_benchmarks_belong_to_the_end(sweep_folder: str, finish: Finish) -> None:
    cell = cell_of(sweep_folder, evaluate=BENCHMARK)
    assert (look(cell).lacking_before, look(cell).lacking_after) == (("calfw",), ("calfw",))

    finish(cell, 0.9)
    found = look(cell)
    assert (found.status, found.trained) == ("unfinished", True)
    assert (found.lacking_before, found.lacking_after) == (("calfw",), ("calfw",))

    finish(cell, 0.9, benchmarks={"calfw": 0.8})
    found = look(cell)
    assert (found.status, set(found.before), set(found.after)) == ("finished", {"lfw", "calfw"}, {"lfw", "calfw"})


def test_another_run_in_the_directory_is_refused_with_the_difference(sweep_folder: str, finish: Finish) -> None:
    finish(cell_of(sweep_folder, seed=1), 0.9)
    with pytest.raises(
        OctoscaleError, match=r"octuplet holds a run with other settings \(seed was 1, is 2\): give ano"
    ):
        look(cell_of(sweep_folder, seed=2))


@pytest.mark.parametrize(
    "how",
    [
        {"resilience": {"workers": "4"}}, {"checkpoint": {"every_steps": 7}}, {"telemetry": {"recorders": []}},
        {"storage": {"connections": 3}}, {"data": {"workers": 2}}, {"data": {"cache_dir": "/elsewhere"}},
        {"evaluate": {"batch_size": 7}}, {"evaluate": {"every_steps": 7}},
        {"evaluate": {"at_start": False}},
    ],
    ids=str,
)  # fmt: skip
def test_how_a_run_runs_may_change(how: dict[str, Any]) -> None:
    assert differences(base_config(), base_config(**how)) == []


def test_a_benchmark_that_is_added_later_is_lacking_and_one_that_has_changed_is_another_run(
    sweep_folder: str, finish: Finish
) -> None:
    finish(cell_of(sweep_folder, evaluate=BENCHMARK), 0.9, benchmarks={"calfw": 0.8})
    both = {"benchmarks": {**BENCHMARK["benchmarks"], "cplfw": {"pairs": "q", "images": "i"}}}

    found = look(cell_of(sweep_folder, evaluate=both))
    assert (found.trained, found.lacking_before, found.lacking_after) == (True, ("cplfw",), ("cplfw",))
    assert look(cell_of(sweep_folder)).status == "finished"
    with pytest.raises(OctoscaleError, match=r"evaluate\.benchmarks\.calfw\.pairs was .*/p, is .*/q"):
        look(cell_of(sweep_folder, evaluate={"benchmarks": {"calfw": {"pairs": "q", "images": "i"}}}))


@pytest.mark.parametrize(
    "change",
    [
        {"flip": True}, {"protocol": "calfw"}, {"pairs_url": "/elsewhere/p"}, {"images_url": "/elsewhere/i"},
        {"scores": {("cross", 8): made_up(0, 0.5).scores["cross", 7]}},
        {"scores": {key: score for key, score in made_up(0, 0.5).scores.items() if key[0] == "cross"}},
    ],
    ids=lambda change: "-".join(change),
)  # fmt: skip
def test_a_kept_evaluation_that_is_not_as_configured_is_lacking(
    sweep_folder: str, finish: Finish, change: dict[str, Any]
) -> None:
    """It was made by hand with other options, or before the benchmark's settings changed."""
    cell = cell_of(sweep_folder, evaluate=BENCHMARK)
    finish(cell, 0.9, benchmarks={"calfw": 0.8})
    store = Store(cell.config.directory)
    places = {"pairs_url": str(Path("p").absolute()), "images_url": str(Path("i").absolute())}
    as_it_is = replace(made_up(100, 0.8, "calfw"), **places)
    store.write("benchmarks/calfw/00000100.json", as_it_is.to_json().encode())
    assert look(cell).status == "finished"

    store.write("benchmarks/calfw/00000100.json", replace(as_it_is, **change).to_json().encode())

    found = look(cell)
    assert (found.status, found.lacking_before, found.lacking_after) == ("unfinished", (), ("calfw",))
    assert set(found.after) == {"lfw"}


def test_stray_files_in_a_run_count_for_nothing_and_bad_ones_are_named(sweep_folder: str, finish: Finish) -> None:
    cell = cell_of(sweep_folder, evaluate=BENCHMARK)
    finish(cell, 0.9, benchmarks={"calfw": 0.8})
    store = Store(cell.config.directory)
    for stray in ("evaluations/.DS_Store", "evaluations/notes.json", "benchmarks/.DS_Store"):
        store.write(stray, b"\x00\xff")
    assert look(cell).status == "finished"

    store.write("benchmarks/calfw/00000100.json", b"{}")
    with pytest.raises(OctoscaleError, match=r"benchmarks/calfw/00000100\.json is not an evaluation"):
        look(cell)


def test_templates_and_galleries_are_neither_wanted_nor_compared(sweep_folder: str, finish: Finish) -> None:
    ijbc = {"protocol": "ijbc", "pairs": "meta", "images": "crops"}
    cell = cell_of(sweep_folder, evaluate={"benchmarks": {**BENCHMARK["benchmarks"], "ijbc": ijbc}})
    finish(cell, 0.9, benchmarks={"calfw": 0.8})

    assert look(cell).status == "finished"
    other = {"benchmarks": {**BENCHMARK["benchmarks"], "ijbc": ijbc | {"align": True}}}
    assert look(cell_of(sweep_folder, evaluate=other)).status == "finished"
    assert look(cell_of(sweep_folder, evaluate=BENCHMARK)).status == "finished"


def test_what_it_finds_may_not() -> None:
    changed = differences(base_config(), base_config(loss={"margin": 3.0}, evaluate={"flip": True}, **BENCHMARK_AS))
    assert changed == [
        "data.url was " + str(Path("packed").absolute()) + ", is " + str(Path("other").absolute()),
        "evaluate.flip was False, is True",
        "loss.margin was 25.0, is 3.0",
    ]


BENCHMARK_AS: dict[str, Any] = {"data": {"url": "other"}}


def test_what_the_weights_say_and_absolute_paths_are_no_difference() -> None:
    """A run writes the first down; a launched one the second."""
    base = base_config(model={"weights": "w.pt"})
    written = base.with_absolute_paths()
    said = PreprocessingConfig(mean=(0.0,) * 3, std=(1.0,) * 3, color="bgr")
    model = written.model.model_copy(update={"preprocessing": said, "batch_norm_epsilon": 1e-3})
    written = written.model_copy(update={"model": model})
    assert differences(written, base) == []
    assert differences(base, written) != []


def test_what_cannot_be_read_is_named(sweep_folder: str, finish: Finish) -> None:
    cell = cell_of(sweep_folder)
    finish(cell, 0.9)
    folder = Path(cell.config.directory)
    (folder / "evaluations/00000100.json").write_text("{")
    with pytest.raises(OctoscaleError, match=r"00000100\.json is not an evaluation"):
        look(cell)
    (folder / "config.yaml").write_text(yaml.safe_dump([1]))
    with pytest.raises(OctoscaleError, match=r"config\.yaml is no configuration; give another --directory"):
        look(cell)
