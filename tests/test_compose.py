"""The files that run tidemark outside Python: docker-compose.yml, Dockerfile, Prometheus, Makefile, locks.

No Docker is needed: they are read, compared with each other, and held against the Compose specification.
"""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

VARIABLE = re.compile(r"(?<!\$)\$(?:\{(?P<braced>[^}]*)\}|(?P<bare>\w+))")
WITH_DEFAULT = re.compile(r"(?P<name>\w+):-(?P<default>.+)")


WORKERS = ("worker-1", "worker-2")


def interpolate(text: str) -> str:
    """Return `text` as Compose reads it in an empty environment."""
    return VARIABLE.sub(lambda match: WITH_DEFAULT.fullmatch(match["braced"])["default"], text)


def bind_mounts() -> list[tuple[str, str]]:
    """Return (service, path on the host) of every folder or file that a service mounts."""
    return [
        (name, volume.split(":")[0])
        for name, service in SERVICES.items()
        for volume in service.get("volumes", [])
        if volume.startswith((".", "/"))
    ]


def test_follows_the_compose_specification() -> None:
    schema = json.loads((ROOT / "tests/data/compose-spec.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(interpolate(COMPOSE_TEXT)))


def test_has_the_services_of_the_readme() -> None:
    assert set(SERVICES) == {"kafka", "topics", *WORKERS, "prometheus", "grafana", "kafka-ui"}


def test_docker_itself_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not here")
    told = subprocess.run(
        [docker, "compose", "--file", str(ROOT / "docker-compose.yml"), "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stderr) == (0, "")


def test_every_variable_has_a_default() -> None:
    variables = list(VARIABLE.finditer(COMPOSE_TEXT))
    assert variables
    for match in variables:
        assert match["bare"] is None, f"{match[0]} has no default"
        assert WITH_DEFAULT.fullmatch(match["braced"]), f"{match[0]} has no default"


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_to_a_version(name: str) -> None:
    _, colon, tag = interpolate(SERVICES[name]["image"]).rpartition(":")
    assert colon
    assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag)


def test_our_image_is_tagged_with_our_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert interpolate(SERVICES["worker-1"]["image"]) == f"tidemark:{project['version']}"


def test_base_images_are_pinned_to_a_version() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE)
    assert len(bases) == 2
    for base in bases:
        assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base)


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_the_loopback_address_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", interpolate(port))


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("topics", {"kafka": "service_healthy"}),
        ("worker-1", {"kafka": "service_healthy", "topics": "service_completed_successfully"}),
        ("worker-2", {"kafka": "service_healthy", "topics": "service_completed_successfully"}),
        ("prometheus", {"worker-1": "service_started", "worker-2": "service_started"}),
        ("grafana", {"prometheus": "service_healthy"}),
        ("kafka-ui", {"kafka": "service_healthy"}),
    ],
)
def test_services_start_in_order(name: str, needs: dict[str, str]) -> None:
    found = {other: rule["condition"] for other, rule in SERVICES[name]["depends_on"].items()}
    assert found == needs
    for other, condition in found.items():
        if condition == "service_healthy":
            assert "healthcheck" in SERVICES[other]


@pytest.mark.parametrize(("name", "host_path"), bind_mounts())
def test_mounted_paths_exist(name: str, host_path: str) -> None:
    assert (ROOT / host_path).exists(), f"{name} mounts {host_path}"


def test_named_volumes_are_declared() -> None:
    named = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if not volume.startswith((".", "/"))
    }
    assert named == set(COMPOSE["volumes"])


def test_the_policy_is_one_that_is_shipped() -> None:
    policy = interpolate(SERVICES["worker-1"]["environment"]["TIDEMARK_POLICY"])
    assert (ROOT / "config/policies" / Path(policy).relative_to("/policies")).is_file()


def test_listeners_are_advertised_where_clients_look() -> None:
    environment = SERVICES["kafka"]["environment"]
    listeners = dict(part.split("://") for part in environment["KAFKA_LISTENERS"].split(","))
    advertised = dict(part.split("://") for part in interpolate(environment["KAFKA_ADVERTISED_LISTENERS"]).split(","))
    protocol_map = environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"]
    protocols = dict(part.split(":") for part in protocol_map.split(","))
    assert set(protocols) == set(listeners)
    assert set(advertised) == set(listeners) - {environment["KAFKA_CONTROLLER_LISTENER_NAMES"]}
    assert SERVICES["worker-1"]["environment"]["TIDEMARK_BROKER"] in advertised.values()
    assert "127.0.0.1:9092" in advertised.values()
    assert interpolate(SERVICES["kafka"]["ports"][0]) == "127.0.0.1:9092:9092"


@pytest.mark.parametrize("name", ["topics", *WORKERS])
def test_our_containers_are_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert all(volume.endswith(":ro") for volume in service["volumes"])


def test_the_image_runs_as_an_ordinary_user_and_reports_its_health() -> None:
    assert re.search(r"^USER tidemark$", DOCKERFILE, flags=re.MULTILINE)
    assert re.search(r"^HEALTHCHECK .*?/health'", DOCKERFILE, flags=re.MULTILINE | re.DOTALL)
    assert 'ENTRYPOINT ["tidemark"]' in DOCKERFILE
    assert 'CMD ["worker"]' in DOCKERFILE


def test_the_image_is_built_from_files_that_exist() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in sent or f"!{source}/" in sent, f".dockerignore withholds {source}"


def test_prometheus_scrapes_the_worker_where_it_serves() -> None:
    settings = yaml.safe_load((ROOT / "config/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    (job,) = settings["scrape_configs"]
    ports = [SERVICES[name]["environment"]["TIDEMARK_WEB_PORT"] for name in WORKERS]
    assert job["static_configs"] == [{"targets": [f"{name}:{port}" for name, port in zip(WORKERS, ports, strict=True)]}]
    assert (job["job_name"], job["metrics_path"]) == ("tidemark", "/metrics")
    for name, port in zip(WORKERS, ports, strict=True):
        assert SERVICES[name]["ports"][0].endswith(f":{port}")


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"topics", *WORKERS}))
def test_every_service_that_goes_on_says_how_it_is(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_no_two_services_are_published_on_one_port() -> None:
    ports = [interpolate(port).split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == len(set(ports))


def test_grafana_finds_what_is_provisioned() -> None:
    provisioned = {
        kind: yaml.safe_load(next((ROOT / "config/grafana/provisioning" / kind).glob("*.yaml")).read_text())
        for kind in ("datasources", "dashboards")
    }
    (source,) = provisioned["datasources"]["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = provisioned["dashboards"]["providers"]
    mounts = dict(volume.removesuffix(":ro").split(":") for volume in SERVICES["grafana"]["volumes"])
    assert mounts["./config/grafana/dashboards"] == provider["options"]["path"]
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / "config/grafana/dashboards" / home.relative_to(provider["options"]["path"])).is_file()
    for file in (ROOT / "config/grafana/dashboards").glob("*.json"):
        for panel in json.loads(file.read_text())["panels"]:
            assert panel.get("datasource", {"uid": source["uid"]})["uid"] == source["uid"]


def test_the_makefile_has_its_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    documented = set(re.findall(r"^([a-z-]+):.*## ", makefile, flags=re.MULTILINE))
    phony = set(re.search(r"^\.PHONY: (.+)$", makefile, flags=re.MULTILINE)[1].split())
    wanted = {"help", "install", "demo", "test", "test-all", "lint", "format", "bench", "lock", "clean"}
    assert wanted <= documented
    assert documented == phony


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock", "requirements-runtime.lock"])
def test_locks_pin_versions_and_name_no_place(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"[a-z0-9-]+==\S+( ; .+)?$", line), line
    assert "://" not in text


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-runtime.lock"])
def test_locks_agree_with_the_one_that_is_tested(lock: str) -> None:
    def versions(name: str) -> set[str]:
        text = (ROOT / name).read_text(encoding="utf-8")
        return set(re.findall(r"^([a-z0-9-]+==\S+)", text, flags=re.MULTILINE))

    assert versions(lock) <= versions("requirements-dev.lock")
