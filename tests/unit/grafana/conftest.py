"""The dashboards' generator is found as it finds its own modules: in `tools`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "tools"))
