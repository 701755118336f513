"""An octuplet of the run's own data, as a picture."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import octoscale.showcase
from octoscale.build import build_network
from octoscale.config import parse_config
from octoscale.distributed.world import World
from octoscale.loss import TERMS
from octoscale.showcase import draw_an_octuplet
from tests.conftest import SmallRun


@pytest.mark.parametrize(
    "loss", [{}, {"metric": "cosine", "margin": 0.3}, {"normalize": True}, {"terms": ["hhh"]}], ids=str
)
def test_an_octuplet_is_drawn_and_the_network_stays_as_it_is(
    small_run: SmallRun, tmp_path: Path, loss: dict[str, Any]
) -> None:
    config = parse_config(small_run(tmp_path, loss=loss), source="of the test")
    network = build_network(config, World())
    before = {name: value.clone() for name, value in network.state_dict().items()}

    draw_an_octuplet(network, config, tmp_path / "octuplet.png")

    with Image.open(tmp_path / "octuplet.png") as picture:
        assert picture.format == "PNG"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_what_is_drawn_is_one_anchor_with_its_nearest_strangers(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_config(small_run(tmp_path), source="of the test")
    network = build_network(config, World()).eval()
    drawn: list[Any] = []
    monkeypatch.setattr(octoscale.showcase, "draw_octuplet", lambda *arguments: drawn.append(arguments))

    draw_an_octuplet(network, config, tmp_path / "octuplet.png")

    ((shown, _),) = drawn
    high, low, anchor, positive = shown.high, shown.low, shown.anchor, shown.positive
    # The plan puts the two images of an identity side by side.
    assert positive == anchor ^ 1
    with torch.inference_mode():
        found = {"h": network(high), "l": network(low)}
    for term in TERMS:
        others = found[term[1]]
        to_all = (found[term[0]][anchor] - others).norm(dim=1)
        strangers = [row for row in range(len(others)) if row // 2 != anchor // 2]
        assert shown.negatives[term] == min(strangers, key=lambda row: float(to_all[row]))
        assert shown.distances[term] == pytest.approx(
            (float(to_all[positive]), float(to_all[shown.negatives[term]])), rel=1e-4
        )
