"""What a Kubernetes backend is configured with, and what of it no configuration may change."""

from pathlib import Path
from typing import Any

import pytest

from backends import base, options
from backends.base import BadOptions, JobSpec
from backends.kubernetes import nodes, pods, template
from backends.kubernetes.options import KubernetesOptions
from backends.kubernetes.pods import Image

SPEC = JobSpec("job-0", ("python", "main.py"), Path("x"), prepared="", input_document=b"{}")


def made(given: dict[str, Any], spec: JobSpec = SPEC) -> dict[str, Any]:
    return pods.pod(
        spec, options.parse(KubernetesOptions, {"owner": "me", **given}), Image("job:1"), "uid", 0
    )


@pytest.mark.parametrize(
    ("given", "option", "words"),
    [
        ({"owner": None}, "owner", "must be given"),
        ({"owner": "no/label"}, "owner", "must be the value of a label"),
        ({"namespase": "x"}, "namespase", "did you mean 'namespace'"),
        ({"namespace": "No_Such"}, "namespace", "must be a name of lower-case letters"),
        ({"user": -1}, "user", "must be from 0 to"),
        ({"pod": []}, "pod", "pod must be a mapping, not a list"),
        ({"pod": {"spec": {"hostNetwork": True}}}, "pod", "pod.spec.hostNetwork is not among"),
        ({"pod": {"spec": {"restartPolicy": "Always"}}}, "pod", "pod.spec.restartPolicy is not among"),
        (
            {"pod": {"spec": {"automountServiceAccountToken": True}}},
            "pod",
            "automountServiceAccountToken is not",
        ),
        (
            {"pod": {"spec": {"containers": [{"name": "main", "securityContext": {}}]}}},
            "pod",
            "securityContext",
        ),
        ({"pod": {"spec": {"containers": [{"name": "other"}]}}}, "pod", "must be main, not 'other'"),
        ({"pod": {"spec": {"volumes": [{"name": "output"}]}}}, "pod", "every pod has already"),
        ({"pod": {"metadata": {"labels": {"rungraph/name": "x"}}}}, "pod", "finds the pods again"),
        (
            {
                "pod": {
                    "spec": {
                        "containers": [{"name": "main", "volumeMounts": [{"mountPath": "/mnt/input/x"}]}]
                    }
                }
            },
            "pod",
            "would hide what a job is given",
        ),
    ],
)
def test_a_mistake_is_named_with_its_rule(given: dict[str, Any], option: str, words: str) -> None:
    with pytest.raises(BadOptions) as caught:
        options.parse(KubernetesOptions, {"owner": "me", **given})
    assert caught.value.option == option
    assert words in str(caught.value)


def test_a_pod_is_restricted_by_default() -> None:
    spec = made({})["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
    for each in (*spec["initContainers"], *spec["containers"]):
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert each["securityContext"]["allowPrivilegeEscalation"] is False
    mounted = {mount["name"] for mount in spec["containers"][-1]["volumeMounts"]}
    assert "courier" not in mounted, "the key of the courier is none of the job's business"
    assert "journal" not in mounted


def test_what_a_template_adds_stands_beside_what_is_ours() -> None:
    given = {
        "metadata": {"labels": {"team": "vision"}, "annotations": {"note": "x"}},
        "spec": {
            "nodeSelector": {"gpu": "yes"},
            "tolerations": [{"operator": "Exists"}],
            "priorityClassName": "low",
            "imagePullSecrets": [{"name": "registry"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            "containers": [{"name": "main", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        },
    }
    pod = made({"pod": given})
    assert pod["metadata"]["labels"]["team"] == "vision"
    assert pod["metadata"]["labels"][pods.LABEL_NAME] == "job-0"
    assert pod["spec"]["nodeSelector"] == {"gpu": "yes"}
    assert pod["spec"]["priorityClassName"] == "low"
    assert {volume["name"] for volume in pod["spec"]["volumes"]} == template.VOLUMES | {"data"}
    main = pod["spec"]["containers"][-1]
    assert {"name": "data", "mountPath": "/data"} in main["volumeMounts"]
    assert main["image"] == "job:1"


def test_requests_are_limits() -> None:
    wanted = base.Resources(cpus=0.5, memory_bytes=1 << 20, gpus=2)
    spec = JobSpec("job-0", ("x",), Path("x"), prepared="", input_document=b"{}", resources=wanted)
    resources = made({"gpu_resource": "amd.com/gpu"}, spec)["spec"]["containers"][-1]["resources"]
    assert resources["requests"] == {"cpu": "500m", "memory": "1048576", "amd.com/gpu": "2"}
    assert resources["limits"] == resources["requests"]


def test_a_queue_of_kueue_is_said_by_labels_alone() -> None:
    gang = JobSpec("job-0", ("x",), Path("x"), prepared="", input_document=b"{}", workers=3)
    metadata = made({"queue": "research"}, gang)["metadata"]
    assert metadata["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert metadata["labels"]["kueue.x-k8s.io/pod-group-name"] == "job-0"
    assert metadata["annotations"] == {"kueue.x-k8s.io/pod-group-total-count": "3"}
    assert "kueue.x-k8s.io/queue-name" not in made({}, gang)["metadata"]["labels"]


def test_a_description_that_no_secret_holds_is_rejected() -> None:
    import random

    noise = random.Random(1).randbytes(1 << 20)
    spec = JobSpec("job-0", ("x",), Path("x"), prepared="", input_document=noise)
    with pytest.raises(base.LaunchRejected, match="more than the 1048576 of a Secret"):
        pods.secret(spec, KubernetesOptions("me"), Image("job:1"), "key")


def test_an_image_without_a_command_runs_its_own_in_its_own_folder() -> None:
    image = Image("app:1", ("python3", "/app/run.py"), "/app")
    assert Image.of(image.prepared, "other") == image
    assert Image.of("plain:1", "other") == Image("plain:1")
    assert Image.of("", "other") == Image("other")
    bare = JobSpec("job-0", (), Path("x"), prepared=image.prepared, input_document=b"{}")
    with pytest.raises(base.LaunchRejected, match="says no command"):
        pods.secret(bare, KubernetesOptions("me"), Image("app:1"), "key")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2.0),
        ("500m", 0.5),
        ("12345678n", 0.012345678),
        ("16Gi", 16 * 2.0**30),
        ("3k", 3e3),
        ("5Ki", 5120.0),
        ("1.5M", 1.5e6),
    ],
)
def test_quantities_are_as_the_api_writes_them(text: str, value: float) -> None:
    assert nodes.amount(text) == pytest.approx(value)
    with pytest.raises(ValueError, match="no quantity"):
        nodes.amount(f"{text}x")


def test_capacity_is_of_the_ready_nodes_that_are_chosen() -> None:
    def node(ready: str, labels: dict[str, str], **spec: Any) -> dict[str, Any]:
        has = {"pods": "10", "cpu": "3500m", "memory": "1Gi", "nvidia.com/gpu": "2"}
        conditions = [{"type": "Ready", "status": ready}]
        return {
            "metadata": {"labels": labels},
            "spec": spec,
            "status": {"allocatable": has, "conditions": conditions},
        }

    found = [
        node("True", {"pool": "gpu"}),
        node("True", {"pool": "gpu"}),
        node("True", {"pool": "other"}),
        node("Unknown", {"pool": "gpu"}),
        node("True", {"pool": "gpu"}, unschedulable=True),
    ]
    assert nodes.capacity(found, {"pool": "gpu"}, "nvidia.com/gpu") == base.Capacity(20, 7.0, 2 << 30, 4)
