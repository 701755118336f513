"""cluster/compose.yaml: closed to strangers, without secrets, and of files that there are."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"
COMPOSE = yaml.safe_load((CLUSTER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EACH = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())


def binds(service: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """What is mounted from the machine: source, target, and whether it cannot be written."""
    found = []
    for volume in service.get("volumes", []):
        if isinstance(volume, dict):
            found.append((volume["source"], volume["target"], volume.get("read_only", False)))
        elif volume.startswith((".", "/")):
            source, target, *mode = volume.split(":")
            found.append((source, target, mode == ["ro"]))
    return found


def provisioned(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CLUSTER / "grafana/provisioning" / name).read_text())
    return values


def test_ports_are_on_the_loopback_interface_alone() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    on_host = {name for name, service in SERVICES.items() if service.get("network_mode") == "host"}
    assert on_host == {"prometheus", "grafana"}
    assert "--web.listen-address=127.0.0.1:9090" in SERVICES["prometheus"]["command"]
    assert SERVICES["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert "0.0.0.0" not in (CLUSTER / "compose.yaml").read_text()


@EACH
def test_images_are_of_one_version(service: dict[str, Any]) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)?", service["image"])


@EACH
def test_what_is_mounted_is_there_and_read_only(service: dict[str, Any]) -> None:
    for source, _, read_only in binds(service):
        assert read_only
        assert source.startswith("${OCTOSCALE_TELEMETRY:?") or (CLUSTER / source).is_dir(), source
    named = {volume.partition(":")[0] for volume in service["volumes"] if isinstance(volume, str)}
    assert {name for name in named if not name.startswith(".")} <= COMPOSE["volumes"].keys()


@EACH
def test_no_service_may_gain_privileges(service: dict[str, Any]) -> None:
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")


def test_every_secret_comes_from_the_environment_and_none_has_a_default() -> None:
    secret = re.compile(r"PASSWORD|SECRET|ACCESS_KEY")
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not secret.search(name) or re.fullmatch(r"\${\w+:\?[^}]+}", value), name
    asked = set(re.findall(r"\${(\w+)", (CLUSTER / "compose.yaml").read_text()))
    example = (CLUSTER / "env.example").read_text()
    assert asked == set(re.findall(r"^(\w+)=$", example, re.MULTILINE))
    assert not re.search(r"^\w+=.", example, re.MULTILINE)
    assert ".env" in (CLUSTER.parent / ".gitignore").read_text().splitlines()


def test_grafana_finds_its_dashboards_and_prometheus_as_it_scrapes() -> None:
    targets = {target: CLUSTER / source for source, target, _ in binds(SERVICES["grafana"])}
    (provider,) = provisioned("dashboards/octoscale.yaml")["providers"]
    folder = targets[provider["options"]["path"]]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert json.loads((folder / Path(home).name).read_text())["uid"] == "octoscale-run"
    (source,) = provisioned("datasources/prometheus.yaml")["datasources"]
    assert source["url"] == "http://127.0.0.1:9090"
    assert source["isDefault"]


def test_prometheus_finds_its_rules_and_the_runs() -> None:
    targets = {target: source for source, target, _ in binds(SERVICES["prometheus"])}
    folder = CLUSTER / targets["/etc/prometheus"]
    settings = yaml.safe_load((folder / "prometheus.yml").read_text())
    assert "--config.file=/etc/prometheus/prometheus.yml" in SERVICES["prometheus"]["command"]
    assert all((folder / name).is_file() for name in settings["rule_files"])
    (job,) = settings["scrape_configs"]
    (found,) = job["file_sd_configs"]
    mounted = next(target for target, source in targets.items() if source.startswith("${OCTOSCALE_TELEMETRY"))
    assert found["files"] == [f"{mounted}/targets/*.json"]
    (source,) = provisioned("datasources/prometheus.yaml")["datasources"]
    assert source["jsonData"]["timeInterval"] == settings["global"]["scrape_interval"]
