"""1:N identification against sorting the gallery for each probe."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from octoscale.degrade import degrade
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.evaluate.config import GalleryConfig
from octoscale.evaluate.identification import (
    Identification,
    IdentificationEvaluation,
    Search,
    evaluate_identification,
    identification_intervals,
    identification_rates,
    search,
)
from octoscale.evaluate.protocols.gallery import Gallery
from octoscale.models import FaceNetwork

SETTINGS: Any = {"protocol": "tinyface", "pairs": "-", "images": "-"}


def drawn() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """150 probes of 40 identities, of whom the gallery knows 30, and its 70 images with 20 distractors."""
    generator = torch.Generator().manual_seed(2)
    centres = torch.randn(40, 6, generator=generator)
    probe_identity = torch.randint(0, 40, (150,), generator=generator)
    gallery_identity = torch.cat(
        [torch.arange(30), torch.randint(0, 30, (20,), generator=generator), -torch.ones(20).long()]
    )
    known = centres[gallery_identity.clamp(min=0)] * (gallery_identity >= 0)[:, None]
    gallery = known + torch.randn(70, 6, generator=generator)
    return centres[probe_identity] + torch.randn(150, 6, generator=generator), gallery, probe_identity, gallery_identity


def test_ranks_are_those_of_the_sorted_gallery() -> None:
    probes, gallery, probe_identity, gallery_identity = drawn()

    found = search(probes, gallery, probe_identity, gallery_identity)

    for row in range(len(probes)):
        distances = 1 - torch.nn.functional.cosine_similarity(probes[row].double(), gallery.double())
        order = distances.argsort()
        mates = (gallery_identity[order] == probe_identity[row]).nonzero().ravel()
        assert found.mated[row] == bool(len(mates))
        if len(mates):
            # Other images of the same person do not count before it; the nearest mate has only strangers before it.
            assert found.rank[row] == int(mates[0]) + 1
            assert found.distance[row] == pytest.approx(float(distances[order[mates[0]]]), abs=1e-12)
        else:
            assert found.rank[row] == 0
            assert found.distance[row] == pytest.approx(float(distances.min()), abs=1e-12)


def test_a_stranger_as_near_as_the_mate_counts_before_it() -> None:
    same = torch.tensor([[1.0, 0.0]])

    found = search(same, same.repeat(3, 1), torch.tensor([4]), torch.tensor([-1, 4, 5]))

    assert found.rank.tolist() == [3]


@pytest.mark.parametrize("dim", [100, 128])
def test_a_copy_of_the_mate_is_as_near_wherever_it_is_in_the_gallery(dim: int) -> None:
    generator = torch.Generator().manual_seed(0)
    people = torch.randn(101, dim, generator=generator)
    mates = torch.randint(0, 101, (130,), generator=generator)
    probes = people[mates] + 0.1 * torch.randn(130, dim, generator=generator)

    found = search(probes, torch.cat([people, people.flip(0)]), mates, torch.arange(202))

    assert found.rank.tolist() == [2] * 130


def test_rates_are_counts_of_probes() -> None:
    mated = np.array([True] * 4 + [False] * 10)
    ranks = np.array([1, 1, 2, 6] + [0] * 10)
    distances = np.array([0.1, 0.5, 0.2, 0.3] + [0.3 + 0.05 * k for k in range(10)])

    rank, tpir = identification_rates(Search(mated, ranks, distances), (1, 5, 10), (0.5, 0.1, 0.01))

    assert rank == {1: 0.5, 5: 0.75, 10: 1.0}
    # One false positive in ten is allowed: any threshold below the second nearest, 0.35. The mate at 0.2 is not first.
    assert tpir == {0.5: 0.5, 0.1: 0.25, 0.01: None}


def test_intervals_are_those_of_probes_drawn_anew() -> None:
    found = search(*drawn())
    generator = np.random.default_rng(3)
    rows = [np.flatnonzero(found.mated), np.flatnonzero(~found.mated)]
    rates = []
    for _ in range(2000):
        again = np.concatenate([generator.choice(kind, len(kind)) for kind in rows])
        rank, tpir = identification_rates(
            Search(found.mated[again], found.rank[again], found.distance[again]), (1, 5), (0.2, 0.1)
        )
        rates.append([*rank.values(), *tpir.values()])

    intervals = identification_intervals(found, 2000, (1, 5), (0.2, 0.1, 0.001))

    assert list(intervals) == ["rank_1", "rank_5", "tpir_at_fpir_0.2", "tpir_at_fpir_0.1"]
    expected = np.quantile(rates, (0.025, 0.975), axis=0).T
    np.testing.assert_allclose(list(intervals.values()), expected, atol=0.03)


def test_without_resamples_or_strangers_there_are_fewer_intervals() -> None:
    mated = Search(np.array([True, True]), np.array([1, 2]), np.array([0.1, 0.2]))

    assert identification_intervals(mated, 0) == {}
    assert list(identification_intervals(mated, 10, (1, 5))) == ["rank_1", "rank_5"]


def test_without_non_mated_probes_no_tpir_is_measurable() -> None:
    rank, tpir = identification_rates(Search(np.array([True]), np.array([1]), np.array([0.1])))

    assert rank[1] == 1.0
    assert set(tpir.values()) == {None}


def test_probes_that_nobody_mates_and_broken_embeddings_are_refused() -> None:
    with pytest.raises(OctoscaleError, match="no probe shows anybody of the gallery"):
        identification_rates(Search(np.array([False]), np.array([0]), np.array([0.1])))
    probes, gallery, probe_identity, gallery_identity = drawn()
    for part, row, kind in ((probes, 3, "150 embeddings of the probes"), (gallery, 69, "70 embeddings of the gallery")):
        for value in (torch.nan, torch.inf):
            broken = part.clone()
            broken[row, 2] = value
            both = (broken, gallery) if part is probes else (probes, broken)
            with pytest.raises(OctoscaleError, match=f"1 of {kind} are not finite"):
                search(*both, probe_identity, gallery_identity)


def test_probes_are_degraded_and_the_gallery_is_not(network: FaceNetwork) -> None:
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    sets = Gallery(tuple("abcdef"), np.array([0, 1, 2, 3]), np.array([0, 1, -1, 2]), np.array([4, 5]), np.array([0, 1]))
    network.eval()
    with torch.no_grad():
        gallery, probes = network(images[:4]), network(degrade(images[4:], 8))
    expected = search(probes, gallery, torch.tensor([0, 1]), torch.tensor([0, 1, -1, 2]))

    config = GalleryConfig(protocol="tinyface", pairs="-", images="-", resolutions=(8, 32))
    found = evaluate_identification(network, sets, images, config, World(), name="faces", step=3)

    assert found.scores[8].rank == identification_rates(expected)[0]
    assert list(found.scores) == [8, 32]
    assert list(found.scores[8].rates)[:2] == ["rank 1", "rank 5"]
    # Their own size means no degradation.
    plain = evaluate_identification(network, sets, images, GalleryConfig(**SETTINGS), World())
    assert plain.scores[None] == found.scores[32]
    assert (found.gallery, found.distractors, found.mated_probes, found.non_mated_probes) == (4, 1, 2, 0)
    assert IdentificationEvaluation.from_json(found.to_json()) == found
    values = json.loads(found.to_json())
    assert (values["kind"], values["name"], values["protocol"], values["step"]) == (
        "identification", "faces", "tinyface", 3,
    )  # fmt: skip


def test_a_set_is_read_and_the_gallery_goes_through_the_network_once(network: FaceNetwork, tmp_path: Path) -> None:
    for name in "abcde":
        Image.new("RGB", (16, 16), (40 * (ord(name) - 97), 0, 0)).save(tmp_path / f"{name}.png")
    (tmp_path / "roles.csv").write_text("a,1,gallery\nb,2,gallery\nc,,distractor\nd,1,probe\ne,9,probe\n")
    settings = {"protocol": "identification", "pairs": str(tmp_path / "roles.csv"), "images": str(tmp_path)}
    read = Identification.load(GalleryConfig(**settings, resolutions=(4, 8), flip=True))
    embedded: list[int] = []
    network.register_forward_hook(lambda module, arguments, output: embedded.append(len(output)))

    found = read.evaluate(network, World(), step=2, name="mine")

    assert read.passes == sum(embedded) == (3 + 2 * 2) * 2
    assert (found.name, found.step, found.gallery, found.distractors, found.mated_probes) == ("mine", 2, 3, 1, 1)
    with pytest.raises(OctoscaleError, match="resolutions has 32 px, but the images have 16 px; leave out"):
        Identification.load(GalleryConfig(**settings, resolutions=(7, 32)))


def test_probes_of_another_size_than_the_gallery_are_refused(network: FaceNetwork, tmp_path: Path) -> None:
    for name, size in (("a", 16), ("b", 16), ("c", 32)):
        Image.new("RGB", (size, size)).save(tmp_path / f"{name}.png")
    (tmp_path / "roles.csv").write_text("a,1,gallery\nb,2,gallery\nc,1,probe\n")
    settings: Any = {"protocol": "identification", "pairs": str(tmp_path / "roles.csv"), "images": str(tmp_path)}

    with pytest.raises(OctoscaleError, match=r"c\.png .* is 32×32 px; .* as a\.png, which is 16 px high"):
        Identification.load(GalleryConfig(**settings)).evaluate(network, World())
