"""Plays the faults and prints what each cost: ``python -m tests.integration.faults.measure [--only WORD] [--json]``."""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from octoscale.data.importers.synthetic import write_synthetic_faces
from octoscale.data.pack import pack
from tests.conftest import small_run_values
from tests.integration.faults.faults import FAULTS
from tests.integration.faults.lab import lab
from tests.integration.faults.network import why_not


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="faults whose name holds this")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    arguments = parser.parse_args()
    if (reason := why_not()) is not None:
        sys.exit(reason)
    rows = []
    with tempfile.TemporaryDirectory() as folder, lab() as made:
        values = runs_on(Path(folder))
        for number, fault in enumerate(FAULTS):
            if arguments.only not in fault.name:
                continue
            outcome = fault.play(made, values, str(made.folder / f"run-{number}"))
            rows.append({**asdict(outcome), "fault": fault.name, "load_average": round(os.getloadavg()[0], 1)})
            print(f"{fault.name}: {outcome.steps_lost} steps, {outcome.seconds} s", file=sys.stderr, flush=True)
    if arguments.json:
        print(json.dumps({"cores": os.cpu_count(), "faults": rows}, indent=1))
        return
    print("| fault | steps lost | seconds to the first step after it |\n|---|---|---|")
    for row in rows:
        print(f"| {row['fault']} | {row['steps_lost']} | {row['seconds']} |")


def runs_on(folder: Path) -> Any:
    """Makes a small run's values, on drawn faces in `folder`."""
    write_synthetic_faces(
        folder / "faces", identities=24, images_per_identity=4, verify_identities=20, verify_images_per_identity=3,
        verify_pairs=4, image_size=32,
    )  # fmt: skip
    pack(str(folder / "faces" / "train"), str(folder / "packed"))

    return partial(small_run_values, folder / "packed")


if __name__ == "__main__":
    main()
