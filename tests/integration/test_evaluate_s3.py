"""Data sets of an evaluation on object storage that the configuration's `storage` block alone leads to."""

from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from scipy.io import savemat

from octoscale.config import parse_config
from octoscale.data.storage_config import StorageConfig
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.evaluate.config import EvaluateConfig, Protocol
from octoscale.evaluate.decision import threshold_of
from octoscale.evaluate.export import embed_folder
from octoscale.evaluate.kinds import load
from octoscale.models import load as load_network
from octoscale.train import train
from tests.conftest import SmallRun
from tests.integration.conftest import put_object


@pytest.fixture
def storage(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> StorageConfig:
    """Leads to the server; nothing else does."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    return StorageConfig(endpoint_url=s3_server)


@pytest.fixture
def bucket(s3_url: str, s3_server: str, drawn_faces: Path, tmp_path: Path) -> str:
    """A bucket with the images of six faces, and lists of them in several forms; its URL."""
    verify = drawn_faces / "verify"
    people = sorted(path for path in verify.iterdir() if path.is_dir())[:6]
    name = s3_url.removeprefix("s3://")

    def put(path: str, data: bytes | str) -> None:
        put_object(s3_server, f"{name}/{path}", data.encode() if isinstance(data, str) else data)

    rows, faces = [], []
    for number, person in enumerate(people, start=1):
        for role, image in zip(("gallery", "probe", "probe"), sorted(person.iterdir()), strict=True):
            for folder in ("images", "images/Gallery_Match", "images/Probe"):
                put(f"{folder}/{person.name}/{image.name}", image.read_bytes())
            rows.append((f"{person.name}/{image.name}", number, role))
            faces.append(f"{person.name}/{image.name} {number} {len(faces)}\n")
    put("images/Gallery_Distractor/somebody.jpg", next(people[0].iterdir()).read_bytes())
    put("roles.csv", "".join(f"{image},{person},{role}\n" for image, person, role in rows))
    for role, kind in (("gallery", "gallery_match"), ("probe", "probe")):
        images = np.array([[image] for image, _, of in rows if of == role], object)
        identities = np.array([[person] for _, person, of in rows if of == role])
        savemat(tmp_path / "list.mat", {f"{role}_set": images, f"{role}_ids": identities})
        put(f"lists/{kind}_img_ID_pairs.mat", (tmp_path / "list.mat").read_bytes())
    put("meta/ijbc_face_tid_mid.txt", "".join(faces))
    put("meta/ijbc_template_pair_label.txt", "1 1 1\n1 2 0\n2 3 0\n")
    landmarks = "12 12 20 12 16 16 13 20 19 20 0.9"
    put("meta/ijbc_name_5pts_score.txt", "".join(f"{image} {landmarks}\n" for image, _, _ in rows))
    genuine = [f"{person.name}\t1\t2\n" for person in people[:5]]
    impostor = [f"{one.name}\t1\t{two.name}\t2\n" for one, two in pairwise(people)]
    # Five folds of one pair of either kind.
    put("pairs.txt", "5\t1\n" + "".join(f"{one}{other}" for one, other in zip(genuine, impostor, strict=True)))
    return s3_url


def sets(bucket: str) -> dict[str, dict[str, Any]]:
    images = f"{bucket}/images"
    return {
        "pairs": {"protocol": "lfw", "pairs": f"{bucket}/pairs.txt", "images": images},
        "templates": {"protocol": "ijbc", "pairs": f"{bucket}/meta", "images": images, "align": True},
        "people": {"protocol": "identification", "pairs": f"{bucket}/roles.csv", "images": images},
        "tiny": {"protocol": "tinyface", "pairs": f"{bucket}/lists", "images": images},
    }


def configured(bucket: str) -> dict[str, Any]:
    benchmarks = sets(bucket)
    own = {key: benchmarks["pairs"][key] for key in ("pairs", "images")}
    return {**own, "resolutions": [7, 32], "bootstrap": 0, "benchmarks": benchmarks}


def test_every_kind_of_data_set_is_read_as_the_storage_block_says(bucket: str, storage: StorageConfig) -> None:
    config = EvaluateConfig.model_validate(configured(bucket))
    network = load_network("tiny", embedding_dim=16)

    found = {}
    for name, data in config.benchmarks.items():
        found[name] = load(config.on(data), storage).evaluate(network, World(), name=name)

    kinds = {"pairs": "pairs", "templates": "templates", "people": "identification", "tiny": "identification"}
    assert {name: evaluation.kind for name, evaluation in found.items()} == kinds


@pytest.mark.parametrize("protocol", get_args(Protocol))
def test_every_form_of_a_list_is_looked_for_there(s3_url: str, storage: StorageConfig, protocol: str) -> None:
    """An absent one is told of as absent by the server that was named: nobody else answers for this bucket."""
    values = {"protocol": protocol, "pairs": f"{s3_url}/absent/list"}
    data = {**values, "images": s3_url} if protocol != "bin" else values

    with pytest.raises(OctoscaleError, match=r"absent/list.*: there is no such file, folder or bucket"):
        load(EvaluateConfig.model_validate(data), storage)


def test_a_run_is_evaluated_on_pairs_that_its_storage_block_leads_to(
    bucket: str, storage: StorageConfig, small_run: SmallRun, tmp_path: Path
) -> None:
    values = small_run(tmp_path / "run", steps=1, evaluate=configured(bucket), storage=storage.model_dump(mode="json"))
    run = f"{bucket}/run"

    summary = train(parse_config({**values, "directory": run}, source="of the test"), World())

    assert summary.final is not None
    assert (summary.final.step, summary.final.genuine_pairs) == (1, 5)
    # The decision of two images is found there too.
    score = summary.final.scores["cross", 32]
    decided = threshold_of(run, 1, storage)
    assert (decided and decided.similarity) == (None if score.threshold is None else 1 - score.threshold)


def test_a_folder_there_is_embedded(bucket: str, storage: StorageConfig) -> None:
    network = load_network("tiny", embedding_dim=16)

    names, embeddings = embed_folder(network, f"{bucket}/images/Probe", World(), storage=storage)

    assert len(names) == 18
    assert embeddings.shape == (18, 16)
