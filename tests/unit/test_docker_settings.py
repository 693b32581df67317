"""Settings reach the containers: what stands in docker/.env and did not arrive would be passed over in silence."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml

from app.settings.security import secret_fields
from app.settings.settings import Settings

DOCKER = Path(__file__).parents[2] / "docker"
OF_THE_CONTAINER = {
    "EBS_API_HOST",
    "EBS_API_PORT",
    "EBS_API_PUBLISHED_ON",
    "EBS_API_URL",
    "EBS_BROKER",
    "EBS_DATA_DIR",
    "EBS_KAFKA_VERSION",  # of `ebs up`
    "EBS_QUEUE",  # one for each service
    "EBS_RESTART_BACKOFF_S",  # of `ebs up`
    "EBS_STATS_DB",
    "EBS_WEB_HOST",
    "EBS_WEB_PORT",
    "EBS_WORKER_ID",  # one for each process: several containers of a service would share it
}
"""What an image or the compose file decides."""
ROLES = ("topics", "api", "distribution", "processing", "processing-gpu", "statistics")


def variables() -> set[str]:
    """Return the variable of every setting, and of each file that a secret may come from."""
    files = {f"EBS_{name.upper()}_FILE" for name in secret_fields(Settings)}
    return {f"EBS_{name.upper()}" for name in Settings.model_fields} | files


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_of_the_env_file_reaches_the_containers(role):
    """By name and without a value, which is then that of docker/.env or the shell; unset ones stay unset."""
    environment = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"][role]["environment"]
    passed = {name for name, value in environment.items() if value is None}
    assert variables() - OF_THE_CONTAINER == {name for name in passed if name.startswith("EBS_")}
    assert "kafka:9092" == environment["EBS_BROKER"]


def test_workers_of_a_queue_differ_in_the_queue_alone():
    """They run what the others run, with the same settings, and Prometheus finds them by the same name."""
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    default, queue = services["processing"], services["processing-gpu"]
    assert {"EBS_QUEUE": "gpu"}.items() == queue["environment"].items() - default["environment"].items()
    assert {"profiles", "networks"} == queue.keys() - default.keys()
    assert all(default[name] == queue[name] for name in default if name != "environment")
    assert ["processing"] == queue["networks"]["default"]["aliases"]


def test_api_knows_where_its_port_is_published():
    """It cannot see that from within: published on more than this machine it wants keys."""
    api = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["api"]
    assert "${EBS_BIND:-127.0.0.1}" == api["environment"]["EBS_API_PUBLISHED_ON"]
    assert ["${EBS_BIND:-127.0.0.1}:${EBS_API_PORT:-8000}:8000"] == api["ports"]


def test_only_the_cluster_for_development_serves_without_keys():
    """In the other one the API does not start before it has keys."""
    read = {name: (DOCKER / f"kubernetes/{name}/kustomization.yaml").read_text() for name in ("base", "overlays/prod")}
    assert not any("EBS_API_OPEN" in text for text in read.values())
    assert "EBS_API_OPEN=true" in (DOCKER / "kubernetes/overlays/dev/kustomization.yaml").read_text()


def test_a_stop_has_the_time_that_it_takes():
    """A worker ends itself 15 s after EBS_DRAIN_S; one that is killed before hands back what it could have finished."""
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    for role in ROLES:
        grace = services[role]["stop_grace_period"].removeprefix("${STOP_GRACE_PERIOD:-").removesuffix("s}")
        assert int(grace) > Settings.model_fields["drain_s"].default + 15


def test_no_image_is_the_latest():
    """A tag that moves makes two containers of one service differ; ours is the version of the project."""
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    version = tomllib.loads((DOCKER.parent / "pyproject.toml").read_text())["project"]["version"]
    images = {name: service["image"].partition(":-")[2].removesuffix("}") for name, service in services.items()}
    assert {f"ebs:{version}"} == {images[role] for role in ROLES}
    for image in images.values():
        assert image.rpartition(":")[2] not in {"latest", "", image}, image


def test_image_has_every_package():
    """What .dockerignore or the Dockerfile leaves out is missed only where the image runs."""
    build = tomllib.loads((DOCKER.parent / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    allowed = (DOCKER.parent / ".dockerignore").read_text().splitlines()
    copied = (DOCKER / "Dockerfile").read_text().splitlines()
    for package in build["targets"]["wheel"]["packages"]:
        assert f"!{package}" in allowed
        assert f"COPY {package} /app/{package}" in copied


def test_cluster_for_production_asks_for_three_replicas():
    """With the defaults a power cut may take what was acknowledged."""
    text = (DOCKER / "kubernetes/overlays/prod/kustomization.yaml").read_text()
    assert "- EBS_REPLICATION_FACTOR=3" in text
    assert "- EBS_MIN_INSYNC_REPLICAS=2" in text
