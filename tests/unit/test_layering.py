"""Imports point downward only, and each heavy library has one owner."""

import ast
from pathlib import Path

import octoscale

PACKAGE = Path(octoscale.__file__).parent

# From the top down. A module may import what is on a lower line, and siblings on its own line inside one package.
LAYERS = [
    ["cli"],
    ["quickstart", "doctor", "reproduce"],
    ["orchestrate", "report"],
    ["train", "showcase", "noise", "top"],
    ["build"],
    ["given"],
    ["trained"],
    ["results", "resume", "journal", "feed", "geometry"],
    ["measured"],
    ["config"],
    ["step"],
    ["distillation"],
    ["checkpoint", "evaluate", "export", "heartbeat"],
    ["distributed"],
    ["data"],
    ["augment", "degrade", "interruption", "loss", "models", "optimizer", "resilience", "telemetry"],
    ["randomness", "settings"],
    ["errors"],
]
RANK = {name: len(LAYERS) - number for number, layer in enumerate(LAYERS) for name in layer}

OWNERS = {
    "fsspec": {"data/clients.py"},
    "obstore": {"data/objects_obstore.py"},
    "prometheus_client": {"telemetry/metrics.py", "telemetry/scrape.py"},
    "tensorboardX": {"telemetry/recorders.py"},
    "wandb": {"telemetry/trackers.py"},
    "mlflow": {"telemetry/trackers.py"},
    "scipy": {"evaluate/protocols/matlab.py"},
    "deepspeed": {"distributed/deepspeed_engine.py"},
    "ray": {"orchestrate/"},
    "onnx": {"export/writers.py", "models/graph_facts.py"},
    "onnxscript": {"export/writers.py"},
    "onnxruntime": {"models/graph_file.py"},
    "safetensors": {"export/writers.py", "models/state_file.py"},
    "timm": {"models/registry.py"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def component(module: str) -> str | None:
    """The layer's name of an octoscale module; None for the package itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == "octoscale" and len(parts) > 1 and parts[1] in RANK else None


def sources() -> list[tuple[str, Path]]:
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]
    return [(path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path) for path in paths]


def test_every_module_has_a_layer() -> None:
    assert {name for name, _ in sources()} <= RANK.keys()


def test_imports_point_downward_only() -> None:
    upward = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for name, path in sources()
        for module in imports(path)
        if (other := component(module)) is not None and other != name and RANK[other] >= RANK[name]
    ]
    assert not upward


def test_heavy_libraries_are_imported_by_their_owner_alone() -> None:
    strays = [
        f"{relative} imports {module}"
        for _, path in sources()
        for module in imports(path)
        for library, owners in OWNERS.items()
        if module.split(".")[0] == library
        and not any((relative := path.relative_to(PACKAGE).as_posix()).startswith(owner) for owner in owners)
    ]
    assert not strays


def test_the_loss_imports_torch_and_itself_alone() -> None:
    standard = {"collections", "contextlib", "dataclasses", "functools", "importlib", "math", "re", "time", "typing"}
    for path in sorted((PACKAGE / "loss").glob("*.py")):
        if path.name == "config.py":  # the run's block of it: not imported by the loss
            continue
        modules = imports(path)
        # Comes with PyTorch's CUDA builds; imported when its kernel is used.
        triton = {"triton"} if path.name == "triton_screening.py" else set()
        assert {module.split(".")[0] for module in modules} <= standard | {"torch", "octoscale"} | triton, path
        ours = {component(module) for module in modules if module.startswith("octoscale.")}
        assert ours <= {"loss", "errors", None}, path
