"""Goodput of seeded failures against the interval between commits, beside Young's and Daly's predictions.

    python tools/bench/goodput.py [--segments 200000] [--seed 0] [--png docs/images/goodput.png]

Prints JSON, in a few seconds: for each scenario a sweep of intervals (simulated, exact, first order), Young and Daly's
√(2 · MTBF · cost), the best interval, and what goodput the first loses against the second; also where MTBF is misjudged
by up to 4 ×, and with a commit every 100 seconds. It is a simulation: nothing here was measured on a cluster.
"""

import argparse
import json
import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from support import goodput_figure
from support.renewal import Faults, best_interval, expected, simulate, young_daly, young_daly_waste

import octoscale


@dataclass(frozen=True)
class Scenario:
    """`source`: where MTBF, recovery and cost are from."""

    name: str
    faults: Faults
    source: str


HOUR = 3_600.0
SCENARIOS = (
    Scenario(
        "1,024 GPUs",
        Faults(mtbf=7.9 * HOUR, recovery=40, commit=1.0),
        "MTTF 7.9 h at 1,024 GPUs (Kokolis et al. 2024); recovery: a lost node's target; a stall of 1 s is assumed",
    ),
    Scenario(
        "16,384 GPUs",
        Faults(mtbf=1.8 * HOUR, recovery=40, commit=1.0),
        "MTTF 1.8 h projected at 16,384 GPUs (Kokolis et al. 2024); recovery and stall as above",
    ),
    Scenario(
        "16,384 GPUs, slow commit and restart",
        Faults(mtbf=1.8 * HOUR, recovery=300, commit=30),
        "as above with a synchronous commit of 30 s and a restart of 5 minutes, both assumed",
    ),
    Scenario(
        "spot machines",
        Faults(mtbf=600, recovery=20, commit=0.3),
        "a failure every ten minutes, assumed; recovery: a killed worker's target; a stall of 0.3 s is assumed",
    ),
)
MULTIPLES = tuple(float(value) for value in np.geomspace(1 / 16, 16, 33))
MISJUDGED = (0.25, 0.5, 2.0, 4.0)
FIXED_SECONDS = 100.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=200_000, help="simulated between commits, for each point")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--png", type=Path, help="draw it")
    arguments = parser.parse_args()

    report = {
        "scenarios": [
            study(scenario, segments=arguments.segments, seed=arguments.seed + 1_000 * number)
            for number, scenario in enumerate(SCENARIOS)
        ],
        "segments_per_point": arguments.segments,
        "versions": {"octoscale": octoscale.__version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    if arguments.png:
        goodput_figure.draw(report, arguments.png)
    print(json.dumps(report, indent=1))


def study(scenario: Scenario, *, segments: int, seed: int) -> dict[str, Any]:
    """One scenario: the sweep, and what the chosen interval loses."""
    faults = scenario.faults
    auto, best = young_daly(faults), best_interval(faults)
    sweep = [
        point(faults, auto * multiple, segments=segments, seed=seed + place) for place, multiple in enumerate(MULTIPLES)
    ]
    errors = [abs(row["simulated"]["goodput"] - row["exact"]) / row["simulated"]["standard_error"] for row in sweep]
    top = expected(faults, best).goodput
    # √(2 · MTBF · cost) is off by the root of what either is misjudged by.
    return {
        "name": scenario.name,
        "faults": asdict(faults),
        "source": scenario.source,
        "young_daly_interval": auto,
        "best_interval": best,
        "goodput_young_daly": point(faults, auto, segments=segments, seed=seed + len(MULTIPLES)),
        "goodput_best": top,
        "lost_by_young_daly": top - expected(faults, auto).goodput,
        "lost_when_misjudged": {
            f"{factor:g}": top - expected(faults, young_daly(replace(faults, mtbf=factor * faults.mtbf))).goodput
            for factor in MISJUDGED
        },
        "lost_by_every_100_seconds": top - expected(faults, FIXED_SECONDS).goodput,
        "best_simulated_multiple": MULTIPLES[int(np.argmax([row["simulated"]["goodput"] for row in sweep]))],
        "largest_deviation_in_standard_errors": max(errors),
        "sweep": sweep,
    }


def point(faults: Faults, interval: float, *, segments: int, seed: int) -> dict[str, Any]:
    return {
        "interval": interval,
        "simulated": asdict(simulate(faults, interval, segments=segments, seed=seed)),
        "exact": expected(faults, interval).goodput,
        "first_order": 1 - young_daly_waste(faults, interval),
    }


if __name__ == "__main__":
    main()
