"""How fast images come out of the shards, beside the decoder alone and beside other ways to read them.

    python tools/bench/data.py [--faces FOLDER] [--rounds 5] [--png data.png]

Prints JSON. All read the same JPEGs, warm, and give uint8 batches in memory: octoscale's reader along its identity-
balanced plan with 0, 1 and 2 workers; a loop that only decodes bytes that are in memory (the limit of one core);
webdataset's own sequential pipeline over the same shards, decoding with Pillow and with simplejpeg; and what most
training code does, a folder of images behind a DataLoader with pytorch-metric-learning's MPerClassSampler. They take
turns; read the ratios. Then the share of a training step that waits for its batch, for steps that take twice as long
as reading does.

FOLDER holds IDENTITY/IMAGE.jpg; without it, faces are drawn. Needs `pip install octoscale[bench]`.
"""

import argparse
import io
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import chain, cycle, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
import webdataset
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from pytorch_metric_learning.samplers import MPerClassSampler
from support.measure import describe_machine, ratio
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import octoscale
from octoscale.data.importers.synthetic import write_synthetic_faces
from octoscale.data.index import Index
from octoscale.data.loader import Batch, load_batches
from octoscale.data.pack import pack
from octoscale.data.plan import epoch_plan
from octoscale.data.reader import ImageReader

PACKAGES = ("torch", "simplejpeg", "webdataset", "pillow", "pytorch-metric-learning")
LABELS = {
    "decode_only": "simplejpeg in a loop, bytes in memory: the limit of a core",
    "octoscale_0": "octoscale, in a thread",
    "octoscale_1": "octoscale, 1 worker",
    "octoscale_2": "octoscale, 2 workers",
    "webdataset_simplejpeg": "webdataset in sequence, simplejpeg",
    "webdataset_pillow": "webdataset in sequence, Pillow",
    "folder_sampler": "image folder, MPerClassSampler, Pillow",
}


class Folder(Dataset[tuple[Tensor, int]]):
    """The map-style data set that one writes first."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*/*.jpg"))
        names = sorted({path.parent.name for path in self.paths})
        number = {name: index for index, name in enumerate(names)}
        self.labels = [number[path.parent.name] for path in self.paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[row]) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1), self.labels[row]


def decode_only(reader: ImageReader, plan: NDArray[np.int64]) -> Iterator[object]:
    index = reader.index
    shards = [(reader.directory / shard.name).read_bytes() for shard in index.manifest.shards]
    rows = plan[: min(len(plan), 20)]
    encoded = [
        [shards[index.shard_ids[row]][index.offsets[row] :][: index.sizes[row]] for row in batch] for batch in rows
    ]
    del shards
    for batch in cycle(encoded):
        yield [simplejpeg.decode_jpeg(data, "RGB") for data in batch]


def through_webdataset(reader: ImageReader, size: int, decode: Callable[[bytes], Any]) -> Iterator[object]:
    urls = [str(reader.directory / shard.name) for shard in reader.index.manifest.shards]

    def image(key: str, data: bytes) -> Any:
        return decode(data) if key.endswith(".jpg") else None

    data = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode(image).to_tuple("jpg", "cls")
    for _ in repeat(None):
        # Not the last, incomplete batch.
        yield from data.batched(size, partial=False)


def with_pillow(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def with_simplejpeg(data: bytes) -> Any:
    return simplejpeg.decode_jpeg(data, "RGB")


def from_folder(folder: Path, size: int) -> Iterator[object]:
    data = Folder(folder)
    sampler: Any = MPerClassSampler(data.labels, 2, batch_size=size, length_before_new_iter=len(data) // size * size)
    while True:
        yield from DataLoader(data, batch_size=size, sampler=sampler, drop_last=True)


def ours(reader: ImageReader, plan: NDArray[np.int64], workers: int) -> Iterator[Batch]:
    return load_batches(reader, chain.from_iterable(repeat(plan)), workers=workers)


def images_per_second(start: Callable[[], Iterator[Any]], size: int, batches: int) -> float:
    """Of `batches` batches, after those that cover the start."""
    source = start()
    # What lies ready when the clock starts was not read in its time.
    for _ in islice(source, 6):
        pass
    started = time.perf_counter()
    for _ in islice(source, batches):
        pass
    seconds = time.perf_counter() - started
    if hasattr(source, "close"):
        source.close()
    return batches * size / seconds


def waiting_share(start: Callable[[], Iterator[Any]], step_seconds: float, steps: int) -> float:
    """The share of a step that waits for its batch, where the step keeps one core busy for `step_seconds`."""
    torch.set_num_threads(1)
    a = torch.randn(256, 256)
    source = start()
    waited = 0.0
    # The workers start one after another, and then the queue is empty.
    for step in range(-10, steps):
        asked = time.perf_counter()
        if step == 0:
            started, waited = asked, 0.0
        next(source)
        got = time.perf_counter()
        waited += got - asked
        while time.perf_counter() - got < step_seconds:
            torch.mm(a, a)
    total = time.perf_counter() - started
    if hasattr(source, "close"):
        source.close()
    return waited / total


def draw(result: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots()
    rates = {name: row["images_per_second_median"] for name, row in result["methods"].items()}
    names = list(rates)[::-1]
    colors = ["#0072b2" if name.startswith("octoscale") else "#7d858e" for name in names]
    axes.barh([LABELS[name] for name in names], [rates[name] for name in names], color=colors, height=0.68)
    axes.axvline(rates["decode_only"], color="#22262b", linestyle=(0, (4, 2)), linewidth=1, zorder=0)
    for place, name in enumerate(names):
        axes.annotate(
            f"{rates[name]:,.0f}", (rates[name], place), xytext=(-6, 0), textcoords="offset points",
            va="center", ha="right", color="white", fontweight="bold",
        )  # fmt: skip
    axes.set_title("Images per second, decoded, in batches", loc="left", fontweight="bold")
    axes.set_xlim(0, 1.02 * max(rates.values()))
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    axes.xaxis.set_visible(False)
    machine = result["machine"]
    images = f"{result['images']:,} images, {result['mean_image_bytes']:,} bytes each"
    note = f"{images} · {machine['processor']}, {machine['cores']} cores"
    figure.supxlabel(note, fontsize=9, color="#6b7280")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, help="IDENTITY/IMAGE.jpg; drawn where it is not given")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--batches", type=int, default=30, help="of one turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--png", type=Path)
    arguments = parser.parse_args()
    machine = describe_machine(torch.device("cpu"))
    with tempfile.TemporaryDirectory(prefix="octoscale-bench-") as temporary:
        faces = arguments.faces
        if faces is None:
            faces = Path(temporary, "faces", "train")
            write_synthetic_faces(faces.parent, identities=512, images_per_identity=4)
        pack(str(faces), str(Path(temporary, "packed")))
        index = Index.load(Path(temporary, "packed"))
        reader = ImageReader(index, index.directory)
        size = arguments.batch
        plan = epoch_plan(index.images_per_identity, global_batch_size=size, seed=0, epoch=0)
        methods: dict[str, Callable[[], Iterator[Any]]] = {
            "decode_only": lambda: decode_only(reader, plan),
            "octoscale_0": lambda: ours(reader, plan, 0),
            "octoscale_1": lambda: ours(reader, plan, 1),
            "octoscale_2": lambda: ours(reader, plan, 2),
            "webdataset_simplejpeg": lambda: through_webdataset(reader, size, with_simplejpeg),
            "webdataset_pillow": lambda: through_webdataset(reader, size, with_pillow),
            "folder_sampler": lambda: from_folder(faces, size),
        }
        rates: dict[str, list[float]] = {name: [] for name in methods}
        for number in range(arguments.rounds):
            for name in list(methods)[:: 1 if number % 2 == 0 else -1]:
                rates[name].append(images_per_second(methods[name], size, arguments.batches))
        result: dict[str, Any] = {
            "images": len(index),
            "mean_image_bytes": int(index.sizes.mean()),
            "batch": size,
            "methods": {
                name: {
                    "images_per_second_median": round(statistics.median(rates[name])),
                    "of_decode_only": ratio(rates[name], rates["decode_only"]),
                    "of_webdataset_simplejpeg": ratio(rates[name], rates["webdataset_simplejpeg"]),
                }
                for name in methods
            },
            "waiting_share_of_step": {
                name: round(
                    waiting_share(methods[name], 2 * size / statistics.median(rates["octoscale_1"]), arguments.batches),
                    4,
                )
                for name in ("octoscale_0", "octoscale_1", "octoscale_2")
            },
            "rounds": arguments.rounds,
            "versions": {
                "octoscale": octoscale.__version__,
                **{name: version(name) for name in PACKAGES},
                "python": platform.python_version(),
            },
            "machine": machine,
        }
    if arguments.png:
        draw(result, arguments.png)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
