"""The rights of deploy/kubernetes/rbac.yaml, given to a service account in a namespace, and a kubeconfig of its own."""

import base64
from pathlib import Path

import yaml

from backends.kubernetes.cluster import Cluster
from tests.backends.grounds import eventually

_WRITTEN = Path(__file__).parents[2] / "deploy/kubernetes/rbac.yaml"
_PATHS = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
}


async def granted(cluster: Cluster, config: str, folder: Path) -> str:
    """Make what the namespace needs of that file; the path of a kubeconfig that has those rights and no others."""
    text = _WRITTEN.read_text().replace("namespace: rungraph", f"namespace: {cluster.namespace}")
    for document in yaml.safe_load_all(text):
        if document["kind"] in _PATHS:
            await cluster.json("POST", _PATHS[document["kind"]].format(cluster.namespace), body=document)
    token = {
        "metadata": {"name": "rungraph", "annotations": {"kubernetes.io/service-account.name": "rungraph"}},
        "type": "kubernetes.io/service-account-token",
    }
    await cluster.json("POST", cluster.path("secrets"), body=token)

    async def filled() -> str:
        found = await cluster.json("GET", cluster.path("secrets", "rungraph"))
        return base64.b64decode((found.get("data") or {}).get("token", "")).decode()

    told = yaml.safe_load(Path(config).read_text())
    for user in told["users"]:
        user["user"] = {"token": await eventually(filled)}
    path = folder / "granted"
    path.write_text(yaml.safe_dump(told))
    return str(path)
