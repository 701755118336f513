"""What each choice of a fine-tuning is worth, on real faces: one run per recipe, scored on identities held out for it.

    python tools/bench/recipes.py [--only NAME …] [--steps 150] [--parallel 2] [--directory runs/recipes] [--list]
    python tools/bench/recipes.py --only tied-1e-3 --steps 500 --shared

300 identities of the training set are held out, with 1,800 pairs in LFW's form (`support/selection.py`): recipes are
chosen by these. `--shared` also scores the published pairs; use it once, for the recipe that was chosen. Every run is
`octoscale train configs/real_faces.yaml` with the overrides of its recipe, in `--directory`; the same command goes on
where it was interrupted, and does not repeat what is there. Prints JSON: accuracies in %, with 95 % intervals; the
seconds of a training are those of its steps.
"""

import argparse
import json

from support.recipe_runs import Bench, add_bench_arguments, printed
from support.recipe_table import RECIPES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=RECIPES, help="these recipes; by default all")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--shared", action="store_true", help="also score the published pairs")
    parser.add_argument("--list", action="store_true", help="print the recipes and end")
    add_bench_arguments(parser, "recipes")
    arguments = parser.parse_args()
    if arguments.list:
        print(json.dumps(RECIPES, indent=1))
        return
    bench = Bench.of(arguments)
    bench.prepare()
    names = arguments.only or list(RECIPES)
    steps = arguments.steps
    runs = {f"{name}-{steps}": [f"steps={steps}", *RECIPES[name]] for name in names}
    report = {
        "before": bench.before(shared=arguments.shared),
        "recipes": bench.run_all(runs, shared=arguments.shared),
    }
    print(printed(report))


if __name__ == "__main__":
    main()
