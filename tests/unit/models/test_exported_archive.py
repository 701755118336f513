"""Archives of torch.export: what PyTorch would run code of is refused, and telling what is in one runs nothing."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from octoscale.errors import OctoscaleError
from octoscale.models import load
from octoscale.models.exported_archive import refuse_code
from octoscale.models.graph_facts import graph_facts
from tests.unit.models.graphs import Small, write_graph

Parts = dict[str, bytes]


class _Touches:
    """Pickles as a call that creates `path` when an ordinary unpickler reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def _saved(found: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(found, buffer)
    return buffer.getvalue()


def _find(parts: Parts, end: str) -> str:
    return next(name for name in parts if name.endswith(end))


def _change(parts: Parts, end: str, change: Callable[[Any], None]) -> None:
    name = _find(parts, end)
    value = json.loads(parts[name])
    change(value)
    parts[name] = json.dumps(value).encode()


def pickled_weight(parts: Parts, ran: Path) -> None:
    def change(config: Any) -> None:
        entry = config["config"]["fc.weight"]
        entry["use_pickle"] = True
        parts[_find(parts, f"/{entry['path_name']}")] = _saved(_Touches(ran))

    _change(parts, "model_weights_config.json", change)


def pickled_constant(parts: Parts, ran: Path) -> None:
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    _change(parts, "model_constants_config.json", lambda config: config["config"].update(mine=entry))
    folder = _find(parts, "model_constants_config.json").rpartition("/")[0]
    parts[f"{folder}/opaque_obj_0"] = pickle.dumps(_Touches(ran), protocol=2)


def legacy_weights(parts: Parts, ran: Path) -> None:
    folder = _find(parts, "model_weights_config.json").rpartition("/")[0]
    parts[f"{folder}/model.pt"] = _saved(_Touches(ran))


def pickled_inputs(parts: Parts, ran: Path) -> None:
    parts[_find(parts, "sample_inputs/model.pt")] = _saved(_Touches(ran))


def a_size_that_is_a_program(parts: Parts, ran: Path) -> None:
    name = _find(parts, "models/model.json")
    expression = json.loads(parts[name])["range_constraints"].popitem()[0]
    evil = f"[open({str(ran)!r}, 'w'), Symbol('{expression}')][1]"
    parts[name] = parts[name].replace(
        json.dumps(f"Symbol('{expression}', positive=True, integer=True)").encode(), json.dumps(evil).encode()
    )


def an_import(parts: Parts, ran: Path) -> None:
    def change(program: Any) -> None:
        call = program["graph_module"]["module_call_graph"][0]["signature"]
        call["in_spec"] = json.dumps([1, {"__enum__": True, "fqn": "antigravity:x", "name": "y"}])

    _change(parts, "models/model.json", change)


def a_compiled_library(parts: Parts, ran: Path) -> None:
    folder = _find(parts, "archive_format").rpartition("/")[0]
    parts[f"{folder}/data/aotinductor/model/model.so"] = b""


CHANGES = {
    pickled_weight: "its tensor fc.weight is a pickle",
    pickled_constant: r"it has data/constants/opaque_obj_0",
    legacy_weights: r"it has data/weights/model\.pt",
    pickled_inputs: "its sample inputs are more than tensors",
    a_size_that_is_a_program: r"one of its sizes is .*open",
    an_import: "its arguments have __enum__",
    a_compiled_library: r"it has data/aotinductor/model/model\.so",
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(Small().eval(), tmp_path_factory.mktemp("plain") / "small.pt2")


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_an_archive_that_would_run_code_is_refused_and_looked_at_without_running_it(
    change: Callable[[Parts, Path], None], plain: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(plain) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    before = dict(parts)
    change(parts, tmp_path / "ran")
    assert parts != before
    path = tmp_path / "evil.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in parts.items():
            archive.writestr(name, value)

    with pytest.raises(OctoscaleError, match=rf"evil\.pt2 is not loaded: {CHANGES[change]}.*can run code"):
        load(str(path))
    assert graph_facts(path).image_size in (32, None)
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_part_that_is_there_twice_is_refused(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "twice.pt2"
    path.write_bytes(plain.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(archive.namelist()[0], b"another")
    with pytest.raises(OctoscaleError, match=r"no archive of PyTorch 2\.9 or newer"):
        refuse_code(path)


def test_an_archive_of_an_older_pytorch_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "old.pt2", "w") as archive:
        archive.writestr("version", "8.5")
        archive.writestr("serialized_state_dict.pt", _saved(_Touches(tmp_path / "ran")))
    with pytest.raises(OctoscaleError, match="older ones are pickles"):
        load(str(tmp_path / "old.pt2"))
    assert not (tmp_path / "ran").exists()


def test_a_plain_archive_is_let_through(plain: Path) -> None:
    refuse_code(plain)
