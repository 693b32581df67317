"""What kustomize makes of docker/kubernetes: valid, of least privilege, and fit for a bad night (`make check`)."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.settings.settings import Settings

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "docker" / "kubernetes"
ROLES = {"api", "distribution", "processing", "statistics"}
QUEUE = "processing-gpu"
OPERATORS = {"PodMonitor", "PrometheusRule", "ScaledObject"}
"""Kinds of operators: there is no schema of theirs to install, so each has tests of its own below."""
STOP_S = 15
"""After EBS_DRAIN_S and so long a worker ends itself (docs/reference/exit-codes.md)."""
STALL_TIMEOUT_S = Settings.model_fields["stall_timeout_s"].default
"""After which a worker ends itself; a probe that is quicker ends those of a busy node."""
Resource = dict[str, Any]


def build(directory: Path) -> tuple[Resource, ...]:
    """Return what kustomize makes of a directory."""
    done = subprocess.run(["kustomize", "build", directory], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    return tuple(yaml.load_all(done.stdout, yaml.CSafeLoader))


@cache
def built(overlay: str) -> tuple[Resource, ...]:
    """Return the resources of an overlay."""
    return build(KUBERNETES / "overlays" / overlay)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Resource, ...]:
    """Return the overlay for production with all that is commented out in it: a queue, and every component."""
    place = shutil.copytree(KUBERNETES, tmp_path_factory.mktemp("whole") / "kubernetes") / "overlays" / "prod"
    file = place / "kustomization.yaml"
    file.write_text(re.sub(r"(?m)^  # - \.\./", "  - ../", file.read_text()))
    assert {path.name for path in (KUBERNETES / "components").iterdir()} - {"hardening"} == {
        path.rpartition("/")[2] for path in yaml.safe_load(file.read_text())["components"]
    }
    return build(place)


def of_kind(resources: tuple[Resource, ...], *kinds: str) -> dict[str, Resource]:
    """Return the resources of some kinds by name."""
    return {one["metadata"]["name"]: one for one in resources if one["kind"] in kinds}


def pods(resources: tuple[Resource, ...]) -> dict[str, Resource]:
    """Return the pod's spec of each of our workloads by name; the Kafka for development is not ours."""
    found = of_kind(resources, "Deployment", "StatefulSet", "Job")
    return {name: one["spec"]["template"]["spec"] for name, one in found.items() if name != "kafka"}


def settings(resources: tuple[Resource, ...]) -> dict[str, str]:
    """Return the settings that the pods get."""
    (one,) = of_kind(resources, "ConfigMap").values()
    return one["data"]


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_every_resource_is_valid(overlay):
    """Against the schemas of Kubernetes."""
    for one in built(overlay):
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


def test_every_component_can_be_used(whole):
    """Those that are commented out in the overlay, too."""
    assert {one["kind"] for one in whole} == {one["kind"] for one in built("prod")} | OPERATORS


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_every_pod_is_locked_down(overlay):
    """No root, no rights, nothing to write to but its volumes, no token of the cluster."""
    assert ROLES | {"topics"} == pods(built(overlay)).keys()
    for name, pod in pods(built(overlay)).items():
        (container,) = pod["containers"]
        own = container["securityContext"]
        assert pod["automountServiceAccountToken"] is False, name
        assert (True, 10001) == (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]), name
        assert {"type": "RuntimeDefault"} == pod["securityContext"]["seccompProfile"], name
        assert (True, False) == (own["readOnlyRootFilesystem"], own["allowPrivilegeEscalation"]), name
        assert {"drop": ["ALL"]} == own["capabilities"], name
        assert {"/tmp", "/data", "/run/secrets/ebs"} == {mount["mountPath"] for mount in container["volumeMounts"]}, (
            name
        )


def test_workers_of_a_queue_differ_in_the_queue_alone(whole):
    """As locked down as the others, with their settings, secret, probes and a budget of its own."""
    for one in of_kind(whole, "Deployment", "PodDisruptionBudget").values():
        if one["metadata"]["name"] == QUEUE:
            kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    found = pods(whole)
    default, queue = found["processing"], found[QUEUE]
    (ours,), (theirs,) = queue["containers"], default["containers"]
    assert [{"name": "EBS_QUEUE", "value": "gpu"}] == ours["env"]
    assert theirs == {name: value for name, value in ours.items() if name != "env"}
    assert {"containers"} == {name for name in default if default[name] != queue[name]}
    budgets = of_kind(whole, "PodDisruptionBudget")
    assert {"app.kubernetes.io/name": QUEUE} == budgets[QUEUE]["spec"]["selector"]["matchLabels"]
    assert {"app.kubernetes.io/name": "processing"} == budgets["processing"]["spec"]["selector"]["matchLabels"]
    handlers = of_kind(whole, "NetworkPolicy")["ebs-handlers"]["spec"]["podSelector"]["matchExpressions"]
    assert [{"processing", QUEUE}] == [set(one["values"]) for one in handlers]


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_each_role_has_the_settings_and_its_own_secret_alone(overlay):
    """Handlers run in `processing`: whoever takes that over has neither the API's keys nor another role's password."""
    (config,) = of_kind(built(overlay), "ConfigMap")
    for name, pod in pods(built(overlay)).items():
        sources = [next(iter(source.values()))["name"] for source in pod["containers"][0]["envFrom"]]
        assert [config, f"ebs-{name}"] == sources
        assert {f"ebs-{name}"} == {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_a_stop_has_the_time_that_it_takes(overlay):
    """A worker that is killed before it has drained hands back what it could have finished."""
    drain_s = float(settings(built(overlay))["EBS_DRAIN_S"])
    for name, pod in pods(built(overlay)).items():
        assert pod["terminationGracePeriodSeconds"] > drain_s + STOP_S, name


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_every_worker_is_probed_sized_and_moved_one_at_a_time(overlay):
    """Probes, resources, and a budget that never forbids to empty a node."""
    budgets = of_kind(built(overlay), "PodDisruptionBudget")
    assert ROLES == budgets.keys()
    for name, pod in pods(built(overlay)).items():
        (container,) = pod["containers"]
        assert {"cpu", "memory", "ephemeral-storage"} == container["resources"]["requests"].keys(), name
        assert "memory" in container["resources"]["limits"], name
        if name == "topics":
            continue
        probes = {probe: container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")}
        assert {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"} == probes, name
        liveness = container["livenessProbe"]
        assert liveness["periodSeconds"] * liveness["failureThreshold"] >= STALL_TIMEOUT_S, name
        assert 1 == budgets[name]["spec"]["maxUnavailable"], name
        assert {"app.kubernetes.io/name": name} == budgets[name]["spec"]["selector"]["matchLabels"]


def test_no_image_is_the_latest(whole):
    """A tag that moves makes two pods of one role differ; ours is the version of the project."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {
        name: {container["image"] for one in resources for container in containers(one)}
        for name, resources in {"dev": built("dev"), "prod": whole}.items()
    }
    assert {f"ebs:{version}"} == images["prod"]
    assert "ebs:dev" in images["dev"]
    for image in chain.from_iterable(images.values()):
        assert image.rpartition(":")[2] not in {"latest", "", image}, image


def containers(one: Resource) -> list[Resource]:
    """Return the containers of a workload; none of another resource."""
    return one.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])


def test_production_keeps_each_record_three_times():
    """And takes a write when two have it, so that one broker may go."""
    found = settings(built("prod"))
    assert ("3", "2") == (found["EBS_REPLICATION_FACTOR"], found["EBS_MIN_INSYNC_REPLICAS"])
    assert "EBS_API_OPEN" not in found


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_settings_are_those_of_the_project(overlay):
    """A slip of the finger would be passed over in silence, as what the image knows better is."""
    assert set() == settings(built(overlay)).keys() - {f"EBS_{name.upper()}" for name in Settings.model_fields}
    for name, pod in pods(built(overlay)).items():
        own = {variable["name"] for variable in pod["containers"][0].get("env", [])}
        assert own == ({"EBS_WORKER_ID"} if name == "statistics" else set()), name


def test_network_is_closed_but_for_what_is_named(whole):
    """Everything is forbidden to every pod first; the pages without keys are for Prometheus alone."""
    policies = of_kind(whole, "NetworkPolicy")
    nothing = policies["ebs-nothing"]["spec"]
    assert {"ingress", "egress"}.isdisjoint(nothing)
    assert {"Ingress", "Egress"} == set(nothing["policyTypes"])
    everywhere = nothing["podSelector"]["matchLabels"]
    for name, workload in of_kind(whole, "Deployment", "StatefulSet", "Job").items():
        assert everywhere.items() <= workload["spec"]["template"]["metadata"]["labels"].items(), name
    open_to_all = [
        (name, port["port"])
        for name, policy in policies.items()
        for rule in policy["spec"].get("ingress", [])
        for port in rule["ports"]
        if "from" not in rule
    ]
    assert [("ebs-api", "http")] == open_to_all


def test_alerts_of_the_operator_are_those_that_are_tested(whole):
    """After an edit of docker/prometheus/alerts.yaml run components/prometheus-operator/make-rule.sh."""
    (rule,) = of_kind(whole, "PrometheusRule").values()
    assert yaml.safe_load((ROOT / "docker/prometheus/alerts.yaml").read_text()) == rule["spec"]


def test_pod_monitors_find_every_role_under_the_name_of_its_job(whole):
    """Each port that serves metrics is scraped once, and the job is that of the alerts: ebs-<role>."""
    scraped = []
    workloads = of_kind(whole, "Deployment", "StatefulSet")
    for monitor in of_kind(whole, "PodMonitor").values():
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        (relabeling,) = endpoint["relabelings"]
        assert ("job", "ebs-$1") == (relabeling["targetLabel"], relabeling["replacement"])
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        for name, workload in workloads.items():
            template = workload["spec"]["template"]
            ports = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
            if wanted <= template["metadata"]["labels"].items() and endpoint["port"] in ports:
                assert name == template["metadata"]["labels"]["app.kubernetes.io/name"]
                scraped.append(name)
    assert sorted({*ROLES, QUEUE}) == sorted(scraped)


@pytest.mark.parametrize(("name", "queue"), [("processing", ""), (QUEUE, "-gpu")])
def test_autoscaling_follows_the_same_broker_and_stops_at_the_partitions(whole, name, queue):
    """Each queue by its own lag; workers beyond the partitions would idle."""
    scaled = of_kind(whole, "ScaledObject")[name]
    assert name == scaled["spec"]["scaleTargetRef"]["name"]
    (trigger,) = scaled["spec"]["triggers"]
    followed = (trigger["metadata"]["consumerGroup"], trigger["metadata"]["topic"])
    assert (f"ebs-processing{queue}", f"task-requests{queue}") == followed
    assert settings(whole)["EBS_BROKER"] == trigger["metadata"]["bootstrapServers"]
    assert int(settings(whole)["EBS_PARTITIONS"]) == scaled["spec"]["maxReplicaCount"]
