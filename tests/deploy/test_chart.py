"""The Helm chart, rendered by Helm's own code: valid for Kubernetes, consistent in itself, and true to the programs."""

from __future__ import annotations

import json
import re
import tomllib
from copy import deepcopy
from typing import Any

import pytest
import yaml

from culling.cloud.settings import CloudSettings
from support.deployed import CHART, linted, needs_helm, notes, rendered, unknown_variables, unknown_words
from support.images import ROOT, image

pytestmark = needs_helm

GIVEN: dict[str, Any] = {
    "secret": {
        "databaseUrl": "postgresql+psycopg://culling:open@db.example/culling",
        "s3Key": "key",
        "s3Secret": "secret",
        "curve": "c" * 40,
        "signing": "A" * 43 + "=",
    }
}
FULL: dict[str, Any] = {
    "secret": {**GIVEN["secret"], "pageToken": "open sesame", "rayToken": "token"},
    "image": {"pullSecrets": ["registry"]},
    "bucket": {"endpoint": "http://objects.example", "allowHttp": True},
    "settings": {"CULLING_SCHEDULE__MIN_NEW": "512", "CULLING_ROUND__KEPT": "128"},
    "ingest": {"service": {"annotations": {"a": "b"}}, "nodeSelector": {"a": "b"}, "tolerations": [{"key": "a"}]},
    "control": {"resources": {"limits": {"nvidia.com/gpu": 1}}},
    "labels": {"replicas": 2, "nodeSelector": {"gpu": "yes"}},
    "page": {
        "actions": True,
        "ingress": {"enabled": True, "className": "nginx", "host": "page.example", "tlsSecret": "tls"},
    },
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "ray": {"enabled": True, "workers": {"nodeSelector": {"gpu": "yes"}, "tolerations": [{"key": "gpu"}]}},
}
ROLES = ("ingest", "control", "page")
CASES = {"given": GIVEN, "full": FULL, "own-secret": {"secret": {"existing": "mine"}}}
CUSTOM = ("RayCluster", "ServiceMonitor")
"""Kinds that others define: only the pods in them can be held against a schema."""


@pytest.fixture(params=CASES)
def documents(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return every(CASES[request.param])


def every(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [document for found in rendered(values).values() for document in found]


def pods(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return each pod's template by what holds it."""
    found: dict[str, dict[str, Any]] = {}
    for one in documents:
        if one["kind"] in ("Deployment", "Job"):
            found[one["metadata"]["name"]] = one["spec"]["template"]
        if one["kind"] == "RayCluster":
            found["ray-head"] = one["spec"]["headGroupSpec"]["template"]
            [group] = one["spec"]["workerGroupSpecs"]
            found["ray-worker"] = group["template"]
    return found


def containers(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    specs = [pod["spec"] for pod in pods(documents).values()]
    return [one for spec in specs for one in (*spec.get("initContainers", []), *spec["containers"])]


def of(documents: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in documents if one["kind"] == kind}


def selects(selector: dict[str, str], pod: dict[str, Any]) -> bool:
    return selector.items() <= pod["metadata"]["labels"].items()


def environment(container: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value") for one in container.get("env", [])}


def test_lint_finds_nothing() -> None:
    assert [linted(values) for values in CASES.values()] == [[], [], []]


@pytest.mark.parametrize("version", ["1.27", "1.37"])
def test_kubernetes_knows_every_field(documents: list[dict[str, Any]], version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for one in documents:
        if one["kind"] not in CUSTOM:
            validate.validate(one, version, strict=True)
    for name, pod in pods(documents).items():
        validate.validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **pod}, version, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    wrong = deepcopy(of(every(GIVEN), "Deployment")["prod-culling-page"])
    wrong["spec"]["replcas"] = 2
    with pytest.raises(validate.ValidationError):
        validate.validate(wrong, "1.37", strict=True)


def test_everything_has_a_name_of_its_own_that_tells_the_release() -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in every(FULL)]
    assert len(names) == len(set(names))
    assert all(name.startswith("prod-culling") for _, name in names)


def test_every_pod_runs_without_privileges_and_writes_to_its_volumes_alone(documents: list[dict[str, Any]]) -> None:
    for name, pod in pods(documents).items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"], name
        assert f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}" in USER, name
        assert not spec["automountServiceAccountToken"], name
        assert spec["serviceAccountName"] in of(documents, "ServiceAccount"), name
        volumes = {one["name"] for one in spec["volumes"]}
        for one in (*spec.get("initContainers", []), *spec["containers"]):
            assert one["securityContext"]["readOnlyRootFilesystem"], name
            assert not one["securityContext"]["allowPrivilegeEscalation"], name
            assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
            assert {mount["name"] for mount in one["volumeMounts"]} <= volumes, name
        for one in spec["containers"]:
            assert {"/tmp", *image("cloud").all("VOLUME")} <= {mount["mountPath"] for mount in one["volumeMounts"]}


USER = image("cloud").all("USER")


def test_each_role_is_started_as_the_command_line_says() -> None:
    documents = every({**GIVEN, "labels": {"replicas": 1}})
    for role in (*ROLES, "labels"):
        [container] = pods(documents)[f"prod-culling-{role}"]["spec"]["containers"]
        assert container["args"] == ["cloud", "serve", "--role", role]
        assert unknown_words(container["args"]) == []
    [container] = pods(documents)["prod-culling-migrate"]["spec"]["containers"]
    assert container["args"] == ["cloud", "migrate"]
    assert unknown_words(container["args"]) == []


def test_what_they_are_told_are_settings_which_load(
    documents: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in containers(documents):
        told = environment(one)
        assert unknown_variables("cloud", told) == []
        assert len(told) == len(one.get("env", [])), "no variable twice"
    [page] = pods(documents)["prod-culling-page"]["spec"]["containers"]
    settings = {name: environment(page)[name] for name in ("CULLING_PAGE__NAMES", "CULLING_PAGE__PROXIES")}
    CloudSettings(
        service={"data_dir": "."},
        page={name.removeprefix("CULLING_PAGE__").lower(): json.loads(value) for name, value in settings.items()},
    )


def test_services_and_probes_lead_to_the_ports_of_the_settings(documents: list[dict[str, Any]]) -> None:
    plain = CloudSettings(service={"data_dir": "."})
    wanted = {
        "link": int(plain.service.endpoint.rpartition(":")[2]),
        "metrics": plain.metrics.port,
        "page": plain.page.port,
    }
    for role in ROLES:
        [container] = pods(documents)[f"prod-culling-{role}"]["spec"]["containers"]
        named = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert named.items() <= wanted.items()
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] in named
            assert container[probe]["httpGet"]["path"] in ("/healthz", "/readyz")
    for service in of(documents, "Service").values():
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in wanted
            assert port["port"] == wanted[port["targetPort"]]


def test_what_selects_pods_finds_those_of_its_role(documents: list[dict[str, Any]]) -> None:
    own = {name: pod for name, pod in pods(documents).items() if not name.startswith("ray")}
    for name, one in of(documents, "Deployment").items():
        assert selects(one["spec"]["selector"]["matchLabels"], own[name])
    for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for name, one in of(documents, kind).items():
            found = [pod for pod in own if selects(one["spec"][key]["matchLabels"], own[pod])]
            assert found == ([] if name.endswith("ray") else [name]), kind
    for name, one in of(documents, "Service").items():
        found = [pod for pod in own if selects(one["spec"]["selector"], own[pod])]
        assert found == [name] or name.endswith("-cloud")
    assert {name.rpartition("-")[2] for name in of(documents, "PodDisruptionBudget")} == set(ROLES)
    assert set(own) <= of(documents, "NetworkPolicy").keys()


def test_whoever_signs_models_is_control_alone() -> None:
    mounted = {name: pod["spec"].get("volumes", []) for name, pod in pods(every(FULL)).items()}
    keys = {
        name: {item["key"] for volume in volumes if "secret" in volume for item in volume["secret"]["items"]}
        for name, volumes in mounted.items()
    }
    assert {name for name, found in keys.items() if "signing.secret" in found} == {"prod-culling-control"}
    assert {name for name, found in keys.items() if "curve.secret" in found} == {
        "prod-culling-control",
        "prod-culling-ingest",
    }


def test_every_secret_that_is_read_is_in_the_secret() -> None:
    documents = every(FULL)
    [secret] = of(documents, "Secret").values()
    read = {
        one["valueFrom"]["secretKeyRef"]["key"]
        for container in containers(documents)
        for one in container.get("env", [])
        if "valueFrom" in one
    }
    assert read | {"curve.secret", "signing.secret", "page-token"} == secret["stringData"].keys()
    assert not of(every(CASES["own-secret"]), "Secret")
    plain = yaml.safe_dump([one for one in documents if one["kind"] != "Secret"])
    assert not [value for value in FULL["secret"].values() if len(value) > 6 and value in plain]


def test_keys_are_where_a_role_is_told_and_closed_to_others() -> None:
    documents = every(FULL)
    told = {
        "ingest": {"CURVE_KEY_FILE": "curve.secret"},
        "control": {"CURVE_KEY_FILE": "curve.secret", "SIGNING_KEY_FILE": "signing.secret"},
        "page": {"TOKEN_FILE": "page-token"},
    }
    for role, files in told.items():
        spec = pods(documents)[f"prod-culling-{role}"]["spec"]
        [container] = spec["containers"]
        found = {name.rpartition("__")[2]: value for name, value in environment(container).items() if "_FILE" in name}
        assert found == {name: f"/keys/{key}" for name, key in files.items()}
        [volume] = [one["secret"] for one in spec["volumes"] if one["name"] == "keys"]
        assert {item["path"] for item in volume["items"]} == set(files.values())
        assert volume["defaultMode"] == 0o440
        assert [one for one in container["volumeMounts"] if one["mountPath"] == "/keys"]


def test_the_index_is_migrated_before_anything_of_this_version_starts() -> None:
    documents = every(GIVEN)
    [job] = of(documents, "Job").values()
    hooked = {one["kind"]: one["metadata"]["annotations"] for one in documents if "annotations" in one["metadata"]}
    assert hooked.keys() == {"Job", "Secret", "ServiceAccount"}
    assert {"pre-install", "pre-upgrade"} <= set(job["metadata"]["annotations"]["helm.sh/hook"].split(","))
    weights = {kind: int(told["helm.sh/hook-weight"]) for kind, told in hooked.items()}
    assert max(weights["Secret"], weights["ServiceAccount"]) < weights["Job"]


def test_control_takes_part_in_ray_only_where_there_is_one() -> None:
    documents = every(FULL)
    [control] = pods(documents)["prod-culling-control"]["spec"]["containers"]
    told = environment(control)
    [cluster] = of(documents, "RayCluster")
    assert told["RAY_ADDRESS"] == f"{cluster}-head-svc:6379"
    assert told["CULLING_EXECUTOR__KIND"] == "ray"
    assert "exec /opt/culling/bin/culling cloud serve --role control" in control["args"][0]
    for name in ("ray-head", "ray-worker"):
        [node] = pods(documents)[name]["spec"]["containers"]
        assert environment(node)["RAY_AUTH_MODE"] == "token"
        assert environment(node).keys() - {"RAY_worker_niceness"} <= told.keys()
    assert not [
        name
        for name in environment(pods(every(GIVEN))["prod-culling-control"]["spec"]["containers"][0])
        if "RAY" in name or "EXECUTOR" in name
    ]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "secret.databaseUrl"),
        ({**GIVEN, "ray": {"enabled": True}}, "secret.rayToken"),
        ({**GIVEN, "page": {"actions": True}}, "secret.pageToken"),
        ({"secret": {**GIVEN["secret"], "databaseUrl": "sqlite:///index"}}, "databaseUrl"),
        ({"secret": {**GIVEN["secret"], "curve": "short"}}, "curve"),
        ({**GIVEN, "bucket": {"objects": "culling"}}, "objects"),
        ({**GIVEN, "settings": {"SCHEDULE": "1"}}, "SCHEDULE"),
        ({**GIVEN, "ingest": {"replica": 3}}, "replica"),
        ({**GIVEN, "control": {"scratch": "much"}}, "scratch"),
    ],
)
def test_what_cannot_work_is_refused_by_name(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        rendered(values)


def test_the_schema_has_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(value: Any, told: dict[str, Any], path: str) -> None:
        told = schema["definitions"].get(told.get("$ref", "").rpartition("/")[2], told)
        if isinstance(value, dict) and told.get("properties") and told.get("additionalProperties") is False:
            assert value.keys() == told["properties"].keys() - {"global"}, path
            for key, below in value.items():
                compare(below, told["properties"][key], f"{path}.{key}")

    compare(values, schema, "values")


def test_the_chart_is_of_this_version_and_says_what_was_not_tried() -> None:
    told = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (told["version"], told["appVersion"]) == (version, version)
    assert "Never installed" in (CHART / "values.yaml").read_text()


def test_the_notes_name_commands_and_services_that_there_are() -> None:
    text, documents = notes(GIVEN), every(GIVEN)
    for line in re.findall(r"-- culling (.*)", text):
        assert unknown_words(line.split()) == []
    for kind, name in re.findall(r"(service|deploy)[ /](prod-\S+)", text):
        assert name in of(documents, {"service": "Service", "deploy": "Deployment"}[kind])
    assert "https://page.example" in notes(FULL)
