"""The whole way once, in a few minutes: faces, shards, a network that fails at low resolution, its repair."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from octoscale.config import parse_config
from octoscale.data.importers.synthetic import write_synthetic_faces
from octoscale.data.pack import pack
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.evaluate.report import render
from octoscale.orchestrate.ray_train import LaunchResult, launch
from octoscale.report.page import write_report
from octoscale.showcase import draw_an_octuplet
from octoscale.telemetry.output import Output
from octoscale.telemetry.progress import stages, training
from octoscale.train import train
from octoscale.trained import load_trained

logger = logging.getLogger(__name__)

# Written when the faces are packed, and says which: from there on its runs go on where they were stopped.
_PACKED_NAME = "packed.json"


@dataclass(frozen=True)
class Faces:
    """What the quickstart works on: training faces, verification faces with their pairs, a trained network."""

    train: Path
    verify: Path
    pairs: Path
    model: str
    weights: Path

    @classmethod
    def of_user(cls, faces: Path, pairs: Path, images: Path | None, weights: Path, model: str) -> "Faces":
        """The user's own; `faces` is the training folder, or holds ``train`` and ``verify``."""
        train = faces / "train" if (faces / "train").is_dir() else faces
        found = cls(train, images or faces / "verify", pairs, model, weights)
        for option, path in (("--faces", found.train), ("--images", found.verify), ("--pairs", found.pairs),
                             ("--weights", found.weights)):  # fmt: skip
            if not path.exists():
                raise OctoscaleError(f"no such path: {path}; {option} names it")
        return found


def run_quickstart(
    directory: Path, faces: Faces | None, *, workers: int, console: Console, output: Output
) -> tuple[LaunchResult, Path]:
    """Do everything, say each step, and name the pictures at the end; go on where SIGTERM stopped a training.

    Args:
        directory: where everything goes; empty or absent, or left by a quickstart of the same faces.
        faces: the user's own; None for synthetic ones, on which a small network is trained first.
        workers: ranks of the fine-tuning, under local Ray.
        console: for results.
        output: for what is done meanwhile.

    Returns:
        how the last of its runs ended, and the directory of that run.

    Raises:
        OctoscaleError: the directory is in use, or anything that the user can mend.
    """
    of_what = json.dumps(SYNTHETIC if faces is None else asdict(faces), default=str)
    packed = directory / _PACKED_NAME
    goes_on = packed.is_file() and packed.read_text() == of_what
    if not goes_on and directory.exists() and any(directory.iterdir()):
        raise OctoscaleError(
            f"{directory} is not empty, and not of a quickstart that was stopped while it trained on these faces; give "
            "another --directory, or remove it"
        )
    total, before_training = (5, 2) if faces is None else (3, 1)
    steps = _Headings(output, total - before_training if goes_on else total)
    source = faces.train if faces else directory / "faces" / "train"
    if not goes_on:
        if faces is None:
            steps.say("draw synthetic faces: no real person is on them")
            write_synthetic_faces(directory / "faces", **SYNTHETIC)
        steps.say("pack them into WebDataset shards with an index")
        with stages(output) as show:
            made = pack(str(source), str(directory / "packed"), progress=show)
        logger.info("%d images of %d identities in %d shards", made.images, made.identities, made.shards)
        packed.write_text(of_what)

    if faces is None:
        steps.say("train a small network on high-resolution images alone")
        pretrain = parse_config(pretrain_values(directory), source="of the quickstart")
        trained = train(pretrain, World(), console=output.console, quiet=output.quiet, tell=output.event)
        if trained.status == "interrupted":
            return LaunchResult("interrupted", trained.position.step, None, None), directory / "pretrained"
        verify = directory / "faces" / "verify"
        weights = directory / "pretrained" / "weights.pt"
        faces = Faces(source, verify, verify / "pairs.txt", "tiny", weights)
    values = {**finetune_values(directory, faces), "resilience": {"workers": workers}}
    config = parse_config(values, source="of the quickstart")
    steps.say(f"fine-tune it with the octuplet loss, {workers} ranks under local Ray")
    with training(output.console, quiet=output.quiet, tell=output.event) as tell:
        result = launch(config, quiet=output.quiet, tell=tell)
    results = directory / "finetuned"
    if result.status == "interrupted":
        return result, results
    assert result.baseline is not None
    assert result.final is not None

    steps.say("before and after")
    console.print(render(result.final, result.baseline))
    draw_an_octuplet(load_trained(str(results)).network, config, results / "octuplet.png")
    report = directory / "report.html"
    write_report([str(results)], str(report))
    console.print("\nPictures:")
    for name, text in (
        ("accuracy_by_resolution.png", "accuracy by resolution, before and after"),
        ("roc.png", "ROC at each resolution"),
        ("octuplet.png", "an octuplet of this data, as the loss sees it"),
    ):
        console.print(f"  {results / name}  {text}", soft_wrap=True, markup=False)
    console.print(f"\nThe report, all of it on one page: {report}", soft_wrap=True, markup=False)
    console.print(
        f"The network: {results / 'weights.pt'}. The run again: octoscale train {results / 'config.yaml'}",
        soft_wrap=True,
        markup=False,
    )
    return result, results


class _Headings:
    def __init__(self, output: Output, total: int) -> None:
        self._output, self._total, self._number = output, total, 0

    def say(self, text: str) -> None:
        self._number += 1
        if not self._output.quiet:
            self._output.console.print(f"\n[bold]({self._number}/{self._total}) {text}[/]")


SYNTHETIC: dict[str, int] = {
    "identities": 240,
    "images_per_identity": 8,
    "verify_identities": 60,
    "verify_images_per_identity": 6,
    "verify_pairs": 30,
    "seed": 0,
}


def pretrain_values(directory: Path) -> dict[str, Any]:
    """High resolution alone, from random weights: the network that the fine-tuning is to repair."""
    return {
        "directory": str(directory / "pretrained"),
        "global_batch_size": 128,
        "steps": 300,
        "data": {"url": str(directory / "packed")},
        "model": {"name": "tiny", "batch_norm": "chunk"},
        "loss": {"terms": ["hhh"], "margin": 5.0},
        "optimizer": {"name": "adamw", "learning_rate": 1e-2},
        "schedule": {"name": "cosine", "warmup_steps": 20},
        "checkpoint": {"every_steps": 300},
        "telemetry": {"log_every_steps": 50},
    }


def finetune_values(directory: Path, faces: Faces) -> dict[str, Any]:
    """All four terms. A pre-trained network gets the recipe of configs/real_faces.yaml."""
    values = {
        "directory": str(directory / "finetuned"),
        "global_batch_size": 64,
        "steps": 150,
        "data": {"url": str(directory / "packed")},
        "model": {"name": faces.model, "weights": str(faces.weights)},
        "loss": {"metric": "cosine", "margin": 0.3},
        "optimizer": {"name": "adamw", "learning_rate": 1e-4},
        "schedule": {"name": "cosine", "warmup_steps": 15},
        "checkpoint": {"every_steps": 50},
        "evaluate": {"pairs": str(faces.pairs), "images": str(faces.verify)},
        "telemetry": {"log_every_steps": 25},
    }
    if faces.model == "tiny":
        # A network fresh from a few hundred steps may move further than one that has seen millions of faces.
        values["steps"] = 120
        values["model"] = {"name": "tiny", "weights": str(faces.weights), "batch_norm": "chunk"}
        values["loss"] = {"margin": 5.0}
        values["optimizer"] = {"name": "adamw", "learning_rate": 1e-3}
    return values
