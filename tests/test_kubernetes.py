"""The manifests in config/kubernetes: valid by the schemas, true to each other and to the settings."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from config.settings import load_settings
from streams.worker.web import HEALTH, READY

validating = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")

ROOT = Path(__file__).parents[1]
DIRECTORY = ROOT / "config/kubernetes"
VERSION = "1.30"
KUSTOMIZATION = yaml.safe_load((DIRECTORY / "kustomization.yaml").read_text())
DOCUMENTS: dict[str, dict[str, Any]] = {
    document["kind"]: document
    for name in KUSTOMIZATION["resources"]
    for document in yaml.safe_load_all((DIRECTORY / name).read_text())
}
SETTINGS: dict[str, str] = DOCUMENTS["ConfigMap"]["data"]
POD = DOCUMENTS["Deployment"]["spec"]["template"]["spec"]
(WORKER,) = POD["containers"]


@pytest.mark.parametrize("kind", [kind for kind in DOCUMENTS if kind != "ScaledObject"])
def test_follows_the_schemas_of_kubernetes(kind: str) -> None:
    validating.validate(DOCUMENTS[kind], VERSION, strict=True)


def test_follows_the_schemas_of_keda_and_of_what_keda_makes_of_it() -> None:
    schema = json.loads((ROOT / "tests/data/keda-scaledobject.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(DOCUMENTS["ScaledObject"])
    spec = DOCUMENTS["ScaledObject"]["spec"]
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "made-by-keda"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", **spec["scaleTargetRef"]},
            "maxReplicas": spec["maxReplicaCount"],
            "behavior": spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
        },
    }
    validating.validate(scaler, VERSION, strict=True)


def test_kubectl_builds_it() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not here")
    built = subprocess.run([kubectl, "kustomize", str(DIRECTORY)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    made = {document["kind"]: document for document in yaml.safe_load_all(built.stdout)}
    assert made.keys() == DOCUMENTS.keys()
    image = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["x-tidemark"]["image"]
    assert made["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"] == re.sub(
        r"\$\{\w+:-(.+)\}", r"\1", image
    )


def test_every_file_is_part_of_it() -> None:
    there = {path.name for path in DIRECTORY.iterdir()} - {"kustomization.yaml"}
    assert there == set(KUSTOMIZATION["resources"])


def test_the_settings_can_be_used() -> None:
    settings = load_settings(**{name.removeprefix("TIDEMARK_").lower(): value for name, value in SETTINGS.items()})
    trigger = DOCUMENTS["ScaledObject"]["spec"]["triggers"][0]["metadata"]
    assert trigger["bootstrapServers"] == settings.broker
    assert trigger["consumerGroup"] == settings.app_id
    assert trigger["topic"] == settings.topic("orders")
    assert DOCUMENTS["ScaledObject"]["spec"]["maxReplicaCount"] <= settings.partitions
    assert POD["terminationGracePeriodSeconds"] * 1000 > settings.stop_within
    assert WORKER["ports"] == [{"name": "web", "containerPort": settings.web_port}]
    assert DOCUMENTS["Deployment"]["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(
        settings.web_port
    )


def test_alive_and_ready_are_asked_apart() -> None:
    assert WORKER["livenessProbe"]["httpGet"]["path"] == WORKER["startupProbe"]["httpGet"]["path"] == HEALTH
    assert WORKER["readinessProbe"]["httpGet"]["path"] == READY


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_containers_are_confined(kind: str) -> None:
    pod = DOCUMENTS[kind]["spec"]["template"]["spec"]
    uid = re.search(r"--uid (\d+)", (ROOT / "Dockerfile").read_text())[1]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == int(uid)
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_selectors_meet_the_workers() -> None:
    labels = DOCUMENTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert DOCUMENTS["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert DOCUMENTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert DOCUMENTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert DOCUMENTS["ScaledObject"]["spec"]["scaleTargetRef"]["name"] == DOCUMENTS["Deployment"]["metadata"]["name"]
