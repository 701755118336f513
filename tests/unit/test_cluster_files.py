"""The files in ``cluster/``: valid, of this version, and closed to strangers."""

import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import octoscale
from octoscale.cli.entry import app

ROOT = Path(__file__).resolve().parents[2]
CLUSTERS = sorted((ROOT / "cluster").glob("ray-cluster*.yaml"))
MANIFESTS = sorted((ROOT / "cluster/kuberay").glob("*.yaml"))
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def documents(*kinds: str) -> list[tuple[str, dict[str, Any]]]:
    """Kubernetes objects with the names of their files; all, or those of these kinds."""
    found = [(path.name, it) for path in MANIFESTS for it in yaml.safe_load_all(path.read_text())]
    return [(name, it) for name, it in found if not kinds or it["kind"] in kinds]


def cluster_spec(document: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = document["spec"]
    return spec if document["kind"] == "RayCluster" else spec["rayClusterSpec"]


def pods(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Pod templates of a RayCluster or RayJob."""
    spec = cluster_spec(document)
    yield spec["headGroupSpec"]["template"]
    yield from (group["template"] for group in spec["workerGroupSpecs"])
    if document["kind"] == "RayJob":
        yield document["spec"]["submitterPodTemplate"]


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key and its value, at any depth."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield str(key), below
            yield from walk(below)
    elif isinstance(value, list):
        for below in value:
            yield from walk(below)


RAY_OBJECTS = pytest.mark.parametrize(
    "document", [pytest.param(it, id=it["kind"]) for _, it in documents("RayCluster", "RayJob")]
)


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.name)
def test_a_cluster_passes_rays_own_validator(path: Path) -> None:
    util = pytest.importorskip("ray.autoscaler._private.util")
    pytest.importorskip("jsonschema")

    config = util.prepare_config(yaml.safe_load(path.read_text()))

    util.validate_config(config)
    workers = [kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]]
    # `launch` refuses ranks that the cluster does not have yet.
    assert all(kind["min_workers"] == kind["max_workers"] > 0 for kind in workers)


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.name)
def test_a_clusters_nodes_have_the_token_and_show_nothing_outside(path: Path) -> None:
    config = yaml.safe_load(path.read_text())

    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    for part in ("head", "worker"):
        *_, command = config[f"{part}_start_ray_commands"]
        assert "RAY_AUTH_MODE=token" in command
        # Else the whole job would not find `python`.
        assert "PATH=$HOME/venv/bin:$PATH" in command
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (asked,) = re.findall(r"octoscale\[(.+?)\]", " ".join(config["setup_commands"]))
    assert set(asked.split(",")) <= extras.keys()


def test_nothing_in_the_folder_is_open_to_everyone() -> None:
    for path in [*CLUSTERS, *MANIFESTS]:
        text = path.read_text()
        assert "0.0.0.0" not in text, path
        assert "[::]" not in text, path


@RAY_OBJECTS
def test_image_and_ray_are_those_of_this_version(document: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (ray,) = project["optional-dependencies"]["ray"]
    lowest = re.search(r">=([\d.]+)", ray)
    assert lowest is not None

    assert cluster_spec(document)["rayVersion"].startswith(f"{lowest[1]}.")
    images = {value for key, value in walk(document) if key == "image"}
    assert images == {f"registry.example.com/octoscale:{octoscale.__version__}"}


@RAY_OBJECTS
def test_every_container_runs_as_the_images_user_without_privileges(document: dict[str, Any]) -> None:
    user = re.search(r"useradd .*--uid (\d+)", DOCKERFILE)
    assert user is not None
    for template in pods(document):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == int(user[1])
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            assert container["securityContext"] == security
            assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
            mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounts == {volume["name"] for volume in pod.get("volumes", [])}


@RAY_OBJECTS
def test_the_token_is_asked_for_and_every_secret_is_a_reference(document: dict[str, Any]) -> None:
    assert cluster_spec(document)["authOptions"] == {"mode": "token"}
    for key, value in walk(document):
        if key == "env":
            assert all("value" not in variable for variable in value)
        if key == "envFrom":
            assert value == [{"secretRef": {"name": "octoscale-s3"}}]
    assert documents("Secret") == []


@RAY_OBJECTS
def test_ray_nodes_are_probed_and_listen_where_their_ports_are_named(document: dict[str, Any]) -> None:
    spec = cluster_spec(document)
    assert spec["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "$POD_IP"
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "readiness")} == {"/api/healthz"}
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert str(ports["metrics"]) == group["rayStartParams"]["metrics-export-port"]
    head = {
        port["name"]: port["containerPort"]
        for port in spec["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
    }
    assert head == {"gcs-server": 6379, "dashboard": 8265, "metrics": 8080}


def test_a_job_asks_for_as_many_workers_as_its_cluster_has_gpus() -> None:
    ((_, job),) = documents("RayJob")
    (group,) = cluster_spec(job)["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    gpus = container["resources"]["limits"]["nvidia.com/gpu"] * group["replicas"]

    assert group["minReplicas"] == group["maxReplicas"] == group["replicas"]
    command = job["spec"]["entrypoint"]
    assert command.startswith("octoscale launch /etc/octoscale/run.yaml --address auto ")
    assert command.endswith(f"--workers {gpus}")
    ((_, queue),) = documents("ClusterQueue")
    quota = {it["name"]: it["nominalQuota"] for it in queue["spec"]["resourceGroups"][0]["flavors"][0]["resources"]}
    assert quota["nvidia.com/gpu"] == gpus
    ((_, local),) = documents("LocalQueue")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == local["metadata"]["name"]


def test_budgets_and_policy_select_pods_that_there_are() -> None:
    labels = [template["metadata"]["labels"] for _, it in documents("RayCluster", "RayJob") for template in pods(it)]
    selectors = [it["spec"]["selector"]["matchLabels"] for _, it in documents("PodDisruptionBudget")]
    selectors += [it["spec"]["podSelector"]["matchLabels"] for _, it in documents("NetworkPolicy")]

    assert len(selectors) == 3
    for selector in selectors:
        assert any(selector.items() <= pod.items() for pod in labels), selector
    for _, budget in documents("PodDisruptionBudget"):
        assert isinstance(budget["spec"]["minAvailable"], int)


@pytest.mark.parametrize("path", [*CLUSTERS, *MANIFESTS], ids=lambda path: path.name)
def test_the_commands_in_a_files_head_name_files_that_there_are(path: Path) -> None:
    named = re.findall(r"cluster/[\w./-]+\.yaml", path.read_text())

    assert all((ROOT / name).is_file() for name in named), named


def commands() -> list[str]:
    """Every octoscale command that is written down for clusters."""
    pages = [ROOT / "docs/cluster.md", ROOT / "cluster/README.md", *CLUSTERS]
    found = [
        line for page in pages for line in re.findall(r"^#? *.*?\b(octoscale \w.*)$", page.read_text(), re.MULTILINE)
    ]
    lines = [line.partition("   ")[0].partition("`")[0] for line in found if " --" in line]
    return [*lines, documents("RayJob")[0][1]["spec"]["entrypoint"]]


@pytest.mark.parametrize("line", commands())
def test_a_command_that_is_written_down_is_one(line: str) -> None:
    _, *words = shlex.split(line, comments=True)
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]

    # Raises where an argument is missing, or an option is none.
    command.make_context(line, words)


@RAY_OBJECTS
def test_ray_objects_fit_kuberays_schema(document: dict[str, Any]) -> None:
    """KUBERAY_CRDS: the folder ``ray-operator/config/crd/bases`` of a checkout of KubeRay."""
    folder = os.environ.get("KUBERAY_CRDS")
    if folder is None:
        pytest.skip("KUBERAY_CRDS does not name KubeRay's schemas")
    jsonschema = pytest.importorskip("jsonschema")
    definition = yaml.safe_load((Path(folder) / f"ray.io_{document['kind'].lower()}s.yaml").read_text())
    (version,) = [it for it in definition["spec"]["versions"] if it["name"] == "v1"]

    jsonschema.validate(document, strict(version["schema"]["openAPIV3Schema"]))


def strict(schema: Any) -> Any:
    """The schema without room for unknown keys, as the API server's strict validation has it."""
    if isinstance(schema, list):
        return [strict(it) for it in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(it) for key, it in schema.items()}
    known = closed.get("properties")
    if isinstance(known, dict) and known and not closed.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed
