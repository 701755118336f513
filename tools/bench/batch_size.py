"""Accuracy against the global batch size on real faces: as many images seen, and as many steps.

    python tools/bench/batch_size.py [--steps 4 32] [--most-images 16384] [--parallel 2] [--figure FILE.png]

The paper's figure 4 ends at a batch of 256; here it goes on to 2,048 in the same memory, by the two-pass step with
64 images in the network at a time. Trained and scored as `recipes.py` does it: cosine distance, margin 0.3, AdamW at
1e-3. A point of equal steps that would see more than `--most-images` is left out. The same command goes on where it was
interrupted. Prints JSON.
"""

import argparse
from pathlib import Path

from support.batch_size_figure import draw
from support.recipe_runs import Bench, add_bench_arguments, printed

BATCH_SIZES = (64, 128, 256, 512, 1024, 2048)
IMAGES = 8192
MICRO_BATCH_SIZE = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 32], help="a line of equal steps for each")
    parser.add_argument("--most-images", type=int, default=16384, help="of a point of equal steps")
    parser.add_argument("--figure", type=Path, help="draw the accuracies here")
    add_bench_arguments(parser, "recipes")
    arguments = parser.parse_args()
    bench = Bench.of(arguments)
    bench.prepare()

    equal_images = {size: _name(size, IMAGES // size) for size in BATCH_SIZES}
    equal_steps = {
        steps: {size: _name(size, steps) for size in BATCH_SIZES if size * steps <= arguments.most_images}
        for steps in arguments.steps
    }
    runs = {_name(size, IMAGES // size): _overrides(size, IMAGES // size) for size in BATCH_SIZES}
    # A point of two lines is one run.
    runs |= {name: _overrides(size, steps) for steps, line in equal_steps.items() for size, name in line.items()}
    found = bench.run_all(runs, shared=True)
    report = {
        "before": bench.before(shared=True),
        "equal_images": {size: found[name] for size, name in equal_images.items()},
        "equal_steps": {
            steps: {size: found[name] for size, name in line.items()} for steps, line in equal_steps.items()
        },
    }
    if arguments.figure:
        draw(report, arguments.figure, images=IMAGES)
    print(printed(report))


def _name(batch_size: int, steps: int) -> str:
    return f"batch-{batch_size}-steps-{steps}"


def _overrides(batch_size: int, steps: int) -> list[str]:
    return [
        "loss.metric=cosine",
        "loss.margin=0.3",
        "optimizer.learning_rate=1e-3",
        f"global_batch_size={batch_size}",
        f"micro_batch_size={MICRO_BATCH_SIZE}",
        f"steps={steps}",
        f"schedule.warmup_steps={steps // 10}",
    ]


if __name__ == "__main__":
    main()
