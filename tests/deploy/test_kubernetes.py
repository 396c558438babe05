import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sqlhttp_gateway.check.capacity import Deployment, capacity
from sqlhttp_gateway.check.finding import Level
from sqlhttp_gateway.observe import names
from sqlhttp_gateway.settings import Settings, load_settings, unknown_environment

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS: dict[str, dict[str, Any]] = {
    each["kind"]: each
    for name in KUSTOMIZATION["resources"]
    for each in yaml.safe_load_all((FOLDER / name).read_text())
}
POD = OBJECTS["Deployment"]["spec"]["template"]["spec"]
[GATEWAY] = POD["containers"]
KUBECTL = shutil.which("kubectl")


def settings() -> Settings:
    """What the container's environment means."""
    given: dict[str, Any] = {}
    for variable in GATEWAY["env"]:
        section, _, name = variable["name"].lower().removeprefix("sqlhttp_").partition("__")
        if name:
            value = variable["value"]
            given.setdefault(section, {})[name] = json.loads(value) if value.startswith("[") else value
    return load_settings(**given)


def test_environment_of_the_container_is_of_settings_that_exist() -> None:
    environment = {variable["name"]: variable.get("value", "") for variable in GATEWAY["env"]}
    assert unknown_environment(environment) == []
    assert settings().pool.max_total == 20


def test_as_many_replicas_as_there_may_be_leave_connections_to_others() -> None:
    most = OBJECTS["HorizontalPodAutoscaler"]["spec"]["maxReplicas"]
    finding = capacity(settings(), max_connections=100, reserved=3, deployment=Deployment(most, buffer=3))
    assert finding.level is Level.OK, finding.text


def test_pod_has_time_to_end_in_order() -> None:
    command = GATEWAY["lifecycle"]["preStop"]["exec"]["command"]
    drain = settings().drain
    assert POD["terminationGracePeriodSeconds"] > int(command[1]) + drain.notice + drain.grace


def test_probes_ask_what_the_gateway_answers_and_give_it_time() -> None:
    assert GATEWAY["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert GATEWAY["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert GATEWAY["readinessProbe"]["timeoutSeconds"] > settings().pool.wait_timeout
    assert [port["containerPort"] for port in GATEWAY["ports"]] == [settings().listen.port]


def test_nothing_runs_as_root_or_writes_to_its_image() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    context = GATEWAY["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    user = f"USER {POD['securityContext']['runAsUser']}:"
    assert user in (FOLDER.parent / "Dockerfile").read_text()


def test_service_links_cannot_be_taken_for_settings() -> None:
    assert POD["enableServiceLinks"] is False


def test_scaling_follows_a_metric_that_exists() -> None:
    pods = [each["pods"] for each in OBJECTS["HorizontalPodAutoscaler"]["spec"]["metrics"] if each["type"] == "Pods"]
    assert [each["metric"]["name"] for each in pods] == [names.POOL_WAITING.name]


def test_rollout_and_disruption_keep_the_others_serving() -> None:
    spec = OBJECTS["Deployment"]["spec"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert OBJECTS["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    assert OBJECTS["HorizontalPodAutoscaler"]["spec"]["minReplicas"] >= 2
    assert "replicas" not in spec, "or every apply would undo what the autoscaler did"


def test_gateway_may_reach_postgres_and_names_and_be_reached_by_programs() -> None:
    policy = OBJECTS["NetworkPolicy"]["spec"]
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 5432}
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == {"http"}


def test_every_file_of_the_folder_is_applied() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {"kustomization.yaml", *KUSTOMIZATION["resources"]}


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")
def test_kubectl_builds_it_and_each_object_fits_its_schema() -> None:
    assert KUBECTL is not None
    done = subprocess.run([KUBECTL, "kustomize", str(FOLDER)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    assert {each["kind"] for each in built} == set(OBJECTS)
    [deployment] = [each for each in built if each["kind"] == "Deployment"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= (
        deployment["spec"]["template"]["metadata"]["labels"].items()
    )
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed").validate
    for each in built:
        validate(each, "1.33", strict=True)
