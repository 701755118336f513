"""The endpoint of a rank and the file that names it, together."""

import json
import socket
import urllib.request
from pathlib import Path

from octoscale.telemetry.config import TelemetryConfig
from octoscale.telemetry.export import exported


def test_where_the_port_is_in_use_the_targets_name_the_one_that_serves(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        # Rank 1 wants the port after that of rank 0.
        config = TelemetryConfig(metrics_port=taken - 1)
        with exported(config, run="runs/a", run_folder=tmp_path, rank=1, world_size=2):
            (path,) = (tmp_path / "telemetry/targets").glob("*.json")
            (entry,) = json.loads(path.read_text())
            (address,) = entry["targets"]
            assert address != f"127.0.0.1:{taken}"
            with urllib.request.urlopen(f"http://{address}/metrics") as answer:
                assert b'octoscale_world_size{rank="1",run="runs/a"} 2.0' in answer.read()
