"""Docker's, Kubernetes' and systemd's files, judged by the checkers of others; what they must say is looked up too."""

import importlib
import json
import re
import shlex
import subprocess
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kline_pipeline.cli.app import app
from kline_pipeline.config import known_variables

pytestmark = pytest.mark.ops

DEPLOY = Path(str(files("kline_pipeline") / "deploy"))
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kubernetes/service.yaml").read_text()))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def checked(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_hadolint_has_nothing_to_say(tmp_path: Path) -> None:
    done = checked("hadolint", str(DEPLOY / "Dockerfile"))
    assert (done.returncode, done.stdout) == (0, "")

    (tmp_path / "Dockerfile").write_text("FROM python\nRUN pip install kline-pipeline\n")
    assert "DL3006" in checked("hadolint", str(tmp_path / "Dockerfile")).stdout


def test_the_image_runs_as_nobody_in_particular_and_keeps_no_secret() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    users = re.findall(r"^USER (.+)$", text, re.MULTILINE)

    assert users == ["10001"]
    assert re.search(r"^ARG PYTHON=\d+\.\d+\.\d+-slim-\w+$", text, re.MULTILINE)
    assert not re.findall(r"PASSWORD|SECRET|TOKEN|API_KEY", text)
    assert "/health/live" in text
    assert set(re.findall(r"(?:KLINE|BYBIT)_[A-Z_]+", text)) <= known_variables()


def test_compose_follows_the_specification(tmp_path: Path) -> None:
    command = ("check-jsonschema", "--builtin-schema", "vendor.compose-spec")
    done = checked(*command, str(DEPLOY / "compose.yaml"))
    assert done.returncode == 0, done.stdout

    (tmp_path / "compose.yaml").write_text((DEPLOY / "compose.yaml").read_text().replace("depends_on", "depend_on"))
    assert checked(*command, str(tmp_path / "compose.yaml")).returncode == 1


def test_compose_has_every_part_with_a_pinned_image_a_health_check_and_a_restart() -> None:
    assert set(SERVICES) == {
        "postgres", "redis", "migrate", "code", "webserver", "daemon", "service", "prometheus", "grafana",
    }  # fmt: skip
    for name, service in SERVICES.items():
        assert re.search(r":v?\d+\.\d+\.\d+|:\d+\.\d+-|:local$", service["image"]), name
        # Of the service it is that of the image.
        assert "healthcheck" in service or name == "service", name
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped"), name


def test_nothing_is_reached_from_another_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_password_has_a_default_and_each_that_is_needed_is_made() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    required = set(re.findall(r"\$\{(\w+):\?", text))
    others = set(re.findall(r"\$\{(\w+)(?::-[^}]*)?\}", text))
    example = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / "compose.env").read_text(), re.MULTILINE))

    assert required == {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "GRAFANA_PASSWORD", "KLINE_OPS_TOKEN"}
    assert required | others == set(example)
    assert [example[name] for name in required] == [""] * len(required)


def test_every_dependency_is_a_service_and_what_must_be_healthy_says_when_it_is() -> None:
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in SERVICES, name
            if how["condition"] == "service_healthy":
                assert needed == "service" or "test" in SERVICES[needed]["healthcheck"], name
            else:
                assert (needed, how["condition"]) == ("migrate", "service_completed_successfully")


def test_every_volume_is_declared_or_one_of_the_files() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).exists(), name


def test_what_our_processes_are_told_they_read() -> None:
    told = {variable for service in SERVICES.values() for variable in service.get("environment", {})}

    assert {name for name in told if name.startswith(("KLINE_", "BYBIT_"))} <= known_variables()


def test_grafana_finds_the_dashboards_and_prometheus() -> None:
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/kline_pipeline.yaml").read_text())
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    folder = provider["providers"][0]["options"]["path"]

    assert f"./grafana/dashboards:{folder}:ro" in SERVICES["grafana"]["volumes"]
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    job = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"][0]
    assert job["static_configs"] == [{"targets": ["service:8000"]}]
    assert job["authorization"] == {"credentials_file": f"/run/secrets/{SERVICES['prometheus']['secrets'][0]}"}


def test_the_code_is_found_under_the_name_that_runs_remember() -> None:
    location = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"][0]["grpc_server"]
    values = yaml.safe_load((DEPLOY / "kubernetes/values.yaml").read_text())
    deployment = values["dagster-user-deployments"]["deployments"][0]

    assert location == {"host": "code", "port": 4000, "location_name": "kline_pipeline"}
    assert SERVICES["code"]["command"][-1] == "4000"
    assert values["dagsterWebserver"]["workspace"]["servers"] == [
        {"host": deployment["name"], "port": deployment["port"], "name": "kline_pipeline"}
    ]


def test_the_manifests_follow_the_schemas_of_kubernetes() -> None:
    # Of the extra `ops`, without which this module can still be loaded.
    kubernetes_validate: Any = importlib.import_module("kubernetes_validate")
    assert [manifest["kind"] for manifest in MANIFESTS] == ["Deployment", "Service", "NetworkPolicy"]
    for manifest in MANIFESTS:
        kubernetes_validate.validate(manifest, "1.37", strict=True)

    broken = json.loads(json.dumps(MANIFESTS[0]))
    broken["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.37", strict=True)


def test_the_pods_are_probed_bounded_and_may_do_nothing_else() -> None:
    pod = MANIFESTS[0]["spec"]["template"]["spec"]
    (service,) = pod["containers"]

    assert service["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert service["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert pod["securityContext"]["runAsNonRoot"]
    for container in (service, *pod["initContainers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]) == {"requests", "limits"}
    for manifest in MANIFESTS[1:]:
        chosen = manifest["spec"].get("selector") or manifest["spec"]["podSelector"]["matchLabels"]
        assert chosen == MANIFESTS[0]["spec"]["template"]["metadata"]["labels"]


def test_the_values_are_for_the_dagster_that_is_installed() -> None:
    text = (DEPLOY / "kubernetes/values.yaml").read_text()

    assert f"--version {version('dagster')}" in text
    assert f"dagster-k8s=={version('dagster-postgres')}" in text


def test_runs_in_kubernetes_show_the_lines_that_they_show_elsewhere() -> None:
    values = yaml.safe_load((DEPLOY / "kubernetes/values.yaml").read_text())["pythonLogs"]
    elsewhere = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())["python_logs"]

    assert values["managedPythonLoggers"] == elsewhere["managed_python_loggers"]
    assert values["pythonLogLevel"] == elsewhere["python_log_level"]


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    program = tmp_path / "kline-pipeline"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in UNITS:
        text = unit.read_text()
        assert text.count("/opt/kline-pipeline/bin/kline-pipeline ") == 1
        (tmp_path / unit.name).write_text(text.replace("/opt/kline-pipeline/bin/kline-pipeline", str(program)))
    copies = [str(tmp_path / unit.name) for unit in UNITS]

    done = checked("systemd-analyze", "verify", "--man=no", *copies)
    assert (done.returncode, done.stderr) == (0, "")

    (tmp_path / UNITS[0].name).write_text("[Service]\nExecStart=/nowhere/at/all\nResart=always\n")
    broken = checked("systemd-analyze", "verify", "--man=no", copies[0])
    assert "Resart" in broken.stderr
    assert broken.returncode == 1


def test_the_units_are_shut_in() -> None:
    for unit in UNITS:
        done = checked("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit))
        assert done.returncode == 0, done.stdout[-300:]


def test_every_command_of_ours_in_the_files_exists_with_its_options() -> None:
    units = "".join(unit.read_text() for unit in UNITS)
    in_units = [shlex.split(line) for line in re.findall(r"^ExecStart=(.+)$", units, re.MULTILINE)]
    pod = MANIFESTS[0]["spec"]["template"]["spec"]
    in_pods = [container["command"] for container in (*pod["containers"], *pod["initContainers"])]
    image = (DEPLOY / "Dockerfile").read_text()
    in_image = [json.loads(line) for line in re.findall(r"^CMD (.+)$", image, re.MULTILINE)]
    in_compose = [service["command"] for service in SERVICES.values() if "command" in service]
    ours = [words for words in (*in_units, *in_pods, *in_image, *in_compose) if words[0].endswith("kline-pipeline")]

    assert len(ours) == len(in_units) + len(in_pods) + len(in_image) + 2
    for words in ours:
        names = [word for word in words[1:] if not word.startswith("-")][: 2 if words[1] == "db" else 1]
        shown = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0, words
        for option in (word for word in words if word.startswith("-")):
            assert option in shown.output, words


def test_the_environment_of_the_units_is_read() -> None:
    names = set(
        re.findall(r"^#?((?:KLINE|BYBIT)_\w+)=", (DEPLOY / "systemd/kline-pipeline.env").read_text(), re.MULTILINE)
    )

    assert names
    assert names <= known_variables()
