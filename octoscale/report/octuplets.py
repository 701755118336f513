"""What the loss sees: octuplets of the run's own data, mined with the network that came out."""

from collections.abc import Iterator, Sequence

from octoscale.errors import OctoscaleError
from octoscale.evaluate.octuplet_figure import ShownOctuplet, octuplet_jpeg
from octoscale.loss import TERMS
from octoscale.report.images import data_uri, face_uri
from octoscale.report.items import Face, FaceGroup, Faces, Item, Missing, Picture, Section, Table, number
from octoscale.report.runs import Run
from octoscale.showcase import mine_octuplets
from octoscale.trained import load_trained

# Mined on a CPU within seconds.
_MOST_IMAGES = 256
_MOST_GROUPS = 6


def octuplets_section(runs: Sequence[Run]) -> Section:
    """The first octuplet as the paper draws it, more of them as rows of images."""
    items = [item for run in runs for item in _of_run(run, max(1, _MOST_GROUPS // len(runs)), several=len(runs) > 1)]
    intro = (
        f"An anchor, its positive, and for each term the nearest image of another person, mined in the first "
        f"{_MOST_IMAGES} images of the run's first batch with the network of its newest commit. Those anchors come "
        "first whose terms choose the most different negatives."
    )
    return Section("octuplets", "Octuplets", intro, tuple(items))


def _of_run(run: Run, count: int, *, several: bool) -> Iterator[Item]:
    prefix = f"{run.name}: " if several else ""
    try:
        trained = load_trained(run.target, storage=run.storage)
        octuplets = mine_octuplets(trained.network, trained.config, count=count, most_images=_MOST_IMAGES)
    except OctoscaleError as error:
        yield Missing(
            f"{prefix}Octuplets", f"they need the run's newest commit and its data set where data.url says: {error}"
        )
        return
    first = octuplets[0]
    numbers = "; ".join(
        f"{term}: d(a,p) {number(near)}, d(a,n) {number(far)}" for term, (near, far) in first.distances.items()
    )
    picture = octuplet_jpeg(first)
    yield Picture(
        f"{prefix}One octuplet, four triplets (the paper's figure 1)",
        data_uri(picture),
        f"Eight images of one octuplet and the distances between them. {numbers}.",
    )
    yield Faces(
        f"{prefix}Octuplets",
        tuple(_group(rank, octuplet) for rank, octuplet in enumerate(octuplets, start=1)),
        _numbers(octuplets),
        f"Above high resolution, below low. Step {trained.step}, {trained.config.loss.metric} distances.",
    )


def _group(rank: int, octuplet: ShownOctuplet) -> FaceGroup:
    anchor, positive, chosen = octuplet.anchor, octuplet.positive, octuplet.negatives
    pair = {"anchor": anchor, "positive": positive}
    sides = (("high", octuplet.high, ("hhh", "lhh")), ("low", octuplet.low, ("hll", "lll")))
    faces = []
    for side, images, terms in sides:
        for label, row in (pair | {term: chosen[term] for term in terms}).items():
            what = f"hardest negative of {label}" if label in TERMS else label
            faces.append(Face(face_uri(images[row]), f"octuplet {rank}: {what}, {side} resolution", label))
    return FaceGroup(f"{rank}", tuple(faces), across=4)


def _numbers(octuplets: Sequence[ShownOctuplet]) -> Table:
    terms = tuple(octuplets[0].distances)
    return Table(
        ("octuplet", *(f"{term} {what}" for term in terms for what in ("d(a,p)", "d(a,n)"))),
        tuple(
            (str(rank), *(number(value) for term in terms for value in octuplet.distances[term]))
            for rank, octuplet in enumerate(octuplets, start=1)
        ),
    )
