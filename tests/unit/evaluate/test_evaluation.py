"""Evaluating a network: what is embedded, by whom, and what comes out."""

import copy
import json
import math
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import KFold
from torch import Tensor, nn

from octoscale.degrade import degrade
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.evaluate.config import EvaluateConfig
from octoscale.evaluate.evaluation import Evaluation, Verification, evaluate, score
from octoscale.evaluate.verification import accuracy_10fold, cosine_distances
from octoscale.models import FaceNetwork, load, set_training
from tests.unit.evaluate.conftest import made_up


class Recording(nn.Module):
    """Keeps what passes through it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.batches: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        self.batches.append(images.clone())
        embeddings: Tensor = self.network(images)
        return embeddings


@dataclass(frozen=True)
class Thread(World):
    """A rank that is a thread: gathers through shared memory."""

    values: list[Any] = field(default_factory=list)
    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))

    def gather(self, value: Any) -> list[Any]:
        self.values[self.rank] = value
        self.barrier.wait(60)
        gathered = list(self.values)
        self.barrier.wait(60)
        return gathered


def on_ranks(
    world_size: int, verification: Verification, network: nn.Module
) -> tuple[list[Evaluation], list[Recording]]:
    values: list[Any] = [None] * world_size
    barrier = threading.Barrier(world_size)
    networks = [Recording(copy.deepcopy(network)) for _ in range(world_size)]
    results: list[Any] = [None] * world_size

    def run(rank: int) -> None:
        world = Thread(rank, rank, world_size, world_size, values=values, barrier=barrier)
        results[rank] = verification.evaluate(networks[rank], world)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results, networks


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return 1 - float(one @ other) / float(np.linalg.norm(one) * np.linalg.norm(other))


def assert_alike(left: Evaluation, right: Evaluation) -> None:
    """Equal up to the rounding of embeddings: rates are counts and agree exactly."""
    assert left.scores.keys() == right.scores.keys()
    assert left.mean_embedding_norm == pytest.approx(right.mean_embedding_norm, rel=1e-5)
    for key, found in left.scores.items():
        other = right.scores[key]
        # The one figure that is a distance, of fp32 embeddings.
        assert found.threshold == pytest.approx(other.threshold, rel=1e-5)
        assert replace(found, threshold=other.threshold) == other


def test_scores_are_those_of_an_evaluation_written_out(verification: Verification, network: FaceNetwork) -> None:
    images, pairs = verification.images, verification.pairs
    network.eval()

    def accuracy(first: Tensor, second: Tensor) -> float:
        with torch.no_grad():
            one, other = network(first), network(second)
        distances = [
            1 - nn.functional.cosine_similarity(one[a], other[b], dim=0).item()
            for a, b in zip(pairs.first, pairs.second, strict=True)
        ]
        return accuracy_10fold(distances, pairs.same).mean

    found = verification.evaluate(network, World())

    for resolution in (4, 8):
        low = degrade(images, resolution)
        assert found.scores["cross", resolution].accuracy == accuracy(images, low)
        assert found.scores["same", resolution].accuracy == accuracy(low, low)
    assert found.scores["cross", 32].accuracy == found.scores["same", 32].accuracy == accuracy(images, images)


def test_accuracy_roc_and_area_are_those_of_scikit_learn(verification: Verification, network: FaceNetwork) -> None:
    network.eval()
    low = degrade(verification.images, 4)
    with torch.no_grad():
        first = network(verification.images).double().numpy()[verification.pairs.first]
        second = network(low).double().numpy()[verification.pairs.second]
    distances = np.array([cosine(one, other) for one, other in zip(first, second, strict=True)])
    same = verification.pairs.same
    accuracies = []
    for rest, held_out in KFold(10, shuffle=False).split(distances):
        values = np.unique(distances[rest])
        thresholds = [-math.inf, *(values[1:] + values[:-1]) / 2, math.inf]
        best = max(thresholds, key=lambda threshold: (((distances[rest] <= threshold) == same[rest]).sum(), -threshold))
        accuracies.append(np.mean((distances[held_out] <= best) == same[held_out]))
    false_accepts, true_accepts, _ = roc_curve(same, -distances, drop_intermediate=False)

    score = verification.evaluate(network, World()).scores["cross", 4]

    assert score.accuracy == np.mean(accuracies)
    assert score.area_under_curve == pytest.approx(roc_auc_score(same, -distances), abs=1e-15)
    # The drawn curve has the largest true accept rate of each false accept rate.
    assert score.curve == tuple(
        (far, true_accepts[false_accepts == far].max()) for far in np.unique(false_accepts).tolist()
    )


def test_with_flip_the_mirror_image_is_embedded_too(network: FaceNetwork) -> None:
    verification = made_up(flip=True, resolutions=(8,), modes=("same",))
    low = degrade(verification.images, 8)
    network.eval()
    with torch.no_grad():
        fused = network(low) + network(low.flip(-1))
    distances = cosine_distances(fused[verification.pairs.first], fused[verification.pairs.second])
    plain = made_up(resolutions=(8,), modes=("same",)).evaluate(network, World())

    found = verification.evaluate(network, World())

    assert found.flip
    assert not plain.flip
    expected = score(distances.numpy(), verification.pairs, verification.config.far)
    assert found.scores["same", 8].area_under_curve == expected.area_under_curve
    assert found.scores["same", 8].threshold == pytest.approx(expected.threshold, rel=1e-6)
    assert found.scores["same", 8].threshold != plain.scores["same", 8].threshold


def test_an_evaluation_tells_its_list_from_others(verification: Verification, network: FaceNetwork) -> None:
    pairs = verification.pairs
    others = [
        replace(pairs, fold=pairs.fold[::-1].copy()),
        replace(pairs, second=np.roll(pairs.second, 1)),
        replace(pairs, same=~pairs.same),
        replace(pairs, images=(*pairs.images[:-1], "another")),
    ]
    assert len({each.digest() for each in (pairs, *others)}) == 5
    assert replace(pairs, where=("elsewhere",) * len(pairs)).digest() == pairs.digest()

    config = verification.config.model_copy(update={"pairs": "list.txt", "images": "s3://key:secret@bucket/faces"})
    found = evaluate(network, pairs, verification.images, config, World())

    assert found.pairs_digest == pairs.digest()
    assert found.pairs_url == str(Path("list.txt").absolute())
    assert found.images_url == "s3://***@bucket/faces"


def test_the_threshold_judges_most_pairs_rightly(
    evaluation: Evaluation, verification: Verification, network: FaceNetwork
) -> None:
    """As many as the best of all thresholds that make a difference, and of equally good ones it is the strictest."""
    pairs = verification.pairs
    network.eval()
    with torch.no_grad():
        embeddings = network(verification.images)
    distances = cosine_distances(embeddings[pairs.first], embeddings[pairs.second]).numpy()

    def right(threshold: float) -> int:
        return int(((distances <= threshold) == pairs.same).sum())

    found = evaluation.scores["same", 32].threshold

    assert found is not None
    most = max(right(each) for each in (-1.0, *distances))
    assert right(found) == most > len(pairs) // 2
    # Between two distances: batches of another size embed a little differently.
    assert np.abs(distances - found).min() > 1e-6
    assert all(right(each) < most for each in distances[distances < distances[distances < found].max()])


def test_a_network_that_tells_nobody_apart_has_no_threshold(verification: Verification) -> None:
    distances = np.full(len(verification.pairs), 0.5)

    assert score(distances, verification.pairs, (0.1,)).threshold is None


def test_confidence_intervals_hold_their_figure(evaluation: Evaluation) -> None:
    for found in evaluation.scores.values():
        assert set(found.intervals) == {"accuracy", "equal_error_rate", "area_under_curve", "tar_at_far_0.1"}
        low, high = found.intervals["accuracy"]
        assert low <= found.accuracy <= high


def test_without_resamples_there_are_no_intervals(network: FaceNetwork) -> None:
    found = made_up(bootstrap=0, resolutions=(8,)).evaluate(network, World())

    assert found.scores["cross", 8].intervals == {}


def test_an_evaluation_from_before_protocols_is_read(evaluation: Evaluation) -> None:
    values = json.loads(evaluation.to_json())
    for name in ("protocol", "flip"):
        del values[name]
    for values_of_score in values["scores"]:
        del values_of_score["intervals"], values_of_score["threshold"]

    found = Evaluation.from_json(json.dumps(values))

    assert found.protocol == "lfw"
    assert found.scores["cross", 4].intervals == {}
    assert found.scores["cross", 4].accuracy == evaluation.scores["cross", 4].accuracy


def test_each_image_is_embedded_once_per_resolution(verification: Verification, network: FaceNetwork) -> None:
    recording = Recording(network)

    verification.evaluate(recording, World())

    seen = torch.cat(recording.batches)
    expected = torch.cat([verification.images, degrade(verification.images, 4), degrade(verification.images, 8)])
    assert torch.equal(seen, expected)


def test_without_the_same_mode_only_second_images_are_degraded(network: FaceNetwork) -> None:
    verification = made_up(modes=("cross",), resolutions=(8,))
    recording = Recording(network)

    verification.evaluate(recording, World())

    seen = torch.cat(recording.batches)
    assert torch.equal(seen, torch.cat([verification.images, degrade(verification.images[1::2], 8)]))


@pytest.mark.parametrize("batch_size", [1, 3, 20, 1000])
def test_the_result_does_not_depend_on_the_batch_size(network: FaceNetwork, batch_size: int) -> None:
    recording = Recording(network)

    found = made_up(batch_size=batch_size).evaluate(recording, World())

    assert max(map(len, recording.batches)) == min(batch_size, 20)
    assert_alike(found, made_up().evaluate(network, World()))


@pytest.mark.parametrize("world_size", [2, 3, 7, 16])
def test_the_result_does_not_depend_on_the_number_of_ranks(
    verification: Verification, network: FaceNetwork, world_size: int
) -> None:
    alone = verification.evaluate(network, World())

    results, _ = on_ranks(world_size, verification, network)

    for result in results:
        assert_alike(result, alone)
        assert result == results[0]


def test_ranks_share_the_images_and_call_the_network_equally_often(network: FaceNetwork) -> None:
    verification = made_up(batch_size=4)

    _, networks = on_ranks(3, verification, network)

    # 20 images on 3 ranks: 7 each, the last fills up with its last image.
    assert {len(recording.batches) for recording in networks} == {3 * 2}
    assert {sum(map(len, recording.batches)) for recording in networks} == {3 * 7}


def test_every_module_keeps_the_mode_it_was_in(verification: Verification, network: FaceNetwork) -> None:
    set_training(network, "frozen")
    modes = [module.training for module in network.modules()]
    assert set(modes) == {True, False}

    verification.evaluate(network, World())

    assert [module.training for module in network.modules()] == modes


def test_a_network_that_fails_keeps_its_modes_too(verification: Verification) -> None:
    class Failing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise ZeroDivisionError

    network = Failing()
    with pytest.raises(ZeroDivisionError):
        verification.evaluate(network, World())
    assert network.training


def test_training_goes_on_after_an_evaluation(verification: Verification, network: FaceNetwork) -> None:
    verification.evaluate(network, World())

    # The degradation's cached matrices were made in inference mode.
    network(degrade(verification.images, 8)).sum().backward()

    assert all(parameter.grad is not None for parameter in network.parameters())


def test_running_statistics_stay_as_they_are(verification: Verification, network: FaceNetwork) -> None:
    before = copy.deepcopy(network.state_dict())

    verification.evaluate(network, World())

    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_one_fold_with_genuine_pairs_first_is_cut_into_balanced_tenths(network: FaceNetwork) -> None:
    ten, one = made_up(folds=10), made_up(folds=1)
    assert one.pairs.same.tolist() == [True] * 10 + [False] * 10

    assert one.evaluate(network, World()).scores == ten.evaluate(network, World()).scores


def test_a_resolution_above_the_images_is_refused_before_anything_is_embedded(network: FaceNetwork) -> None:
    recording = Recording(network)

    with pytest.raises(OctoscaleError, match=r"evaluate.resolutions has 33 px, but the images have 32 px"):
        made_up(resolutions=(8, 33)).evaluate(recording, World())
    assert not recording.batches


def test_embeddings_that_are_not_finite_are_refused(verification: Verification, network: FaceNetwork) -> None:
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)

    with pytest.raises(OctoscaleError, match="20 of 20 distances are not finite"):
        verification.evaluate(network, World())


def test_the_mean_accuracy_is_over_the_resolutions_of_its_mode(evaluation: Evaluation) -> None:
    accuracies = [evaluation.scores["cross", resolution].accuracy for resolution in (4, 8, 32)]

    assert evaluation.mean_accuracy("cross") == pytest.approx(sum(accuracies) / 3)
    assert evaluation.modes == ("cross", "same")
    assert evaluation.resolutions == (4, 8, 32)


def test_json_keeps_everything(evaluation: Evaluation) -> None:
    text = evaluation.to_json()

    assert Evaluation.from_json(text) == evaluation
    assert json.loads(text)["mean_accuracy"]["same"] == evaluation.mean_accuracy("same")


def test_a_tar_that_is_unknown_is_null_in_json(evaluation: Evaluation) -> None:
    # Ten impostor pairs.
    tars = evaluation.scores["cross", 4].tar_at_far
    assert tars[0.1] is not None
    assert tars[0.01] is None

    assert json.loads(evaluation.to_json())["scores"][0]["tar_at_far"]["0.01"] is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"mean_accuracy": {}, "scores": [1]}'])
def test_json_that_is_no_evaluation_is_refused(text: str) -> None:
    with pytest.raises(OctoscaleError, match="not an evaluation"):
        Evaluation.from_json(text)


def test_loading_refuses_a_resolution_above_the_images(real_data: Path) -> None:
    faces = real_data / "faces"
    config = EvaluateConfig(pairs=str(faces / "pairs.txt"), images=str(faces / "verify"), resolutions=(7, 128))

    with pytest.raises(OctoscaleError, match="128 px, but the images have 112 px"):
        Verification.load(config)


def test_a_loaded_verification_is_evaluated_as_its_parts_are(real_data: Path, network: FaceNetwork) -> None:
    faces = real_data / "faces"
    config = EvaluateConfig(pairs=str(faces / "pairs.txt"), images=str(faces / "verify"), resolutions=(14,))
    loaded = Verification.load(config)

    found = loaded.evaluate(network, World(), step=3, name="x")

    assert found == evaluate(network, loaded.pairs, loaded.images, config, World(), step=3, name="x")
    assert (found.genuine_pairs, found.impostor_pairs, found.step, found.name) == (300, 300, 3, "x")
    assert replace(found, step=4) != found


# Accuracy in % of the pre-trained network, from the data's README.
BASELINE = {"cross": (55.00, 76.50, 98.83, 99.67, 99.67), "same": (67.00, 78.00, 97.67, 99.67, 99.67)}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_pretrained_network_is_within_a_standard_error_of_its_published_accuracy(real_data: Path) -> None:
    faces = real_data / "faces"
    network = load("mobilefacenet", weights=real_data / "weights" / "mobilefacenet_112_128d.pt")
    config = EvaluateConfig(pairs=str(faces / "pairs.txt"), images=str(faces / "verify"))

    found = Verification.load(config).evaluate(network, World())

    assert found.mean_embedding_norm == pytest.approx(17.8, abs=0.05)
    for mode in found.modes:
        for resolution, expected in zip(found.resolutions, BASELINE[mode], strict=True):
            # The table does not say how equally good thresholds were resolved, which moves a few of the 600 pairs:
            # within one standard error, √(p (1 − p) / 600).
            tolerance = 100 * math.sqrt(expected / 100 * (1 - expected / 100) / 600)
            accuracy = 100 * found.scores[mode, resolution].accuracy
            assert accuracy == pytest.approx(expected, abs=tolerance), (mode, resolution)
