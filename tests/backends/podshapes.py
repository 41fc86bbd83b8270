"""Pods as a cluster tells them, in every state that a test wants."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
RUNNING = {"running": {"startedAt": "2026-01-01T11:59:00Z"}}


def at(seconds: float) -> str:
    """A moment of the API, so many seconds from now."""
    return (NOW + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def over(code: int, reason: str = "Error", seconds: float = -1) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "finishedAt": at(seconds)}}


def waiting(reason: str) -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": f"{reason} it is"}}


def pod(
    main: Mapping[str, Any] | None = None,
    courier: Mapping[str, Any] = RUNNING,
    fetch: Mapping[str, Any] | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
    **status: Any,
) -> dict[str, Any]:
    return {
        "metadata": {"name": "job-0", "creationTimestamp": at(-90), **(metadata or {})},
        "spec": {
            "nodeName": "n1",
            "initContainers": [{"name": "fetch", "image": "hands:1"}],
            "containers": [
                {"name": "courier", "image": "hands:1"},
                {"name": "main", "image": "job:1", "resources": {"limits": {"memory": "100"}}},
            ],
        },
        "status": {
            "phase": "Running",
            "initContainerStatuses": [{"name": "fetch", "state": fetch or over(0, "Completed")}],
            "containerStatuses": [
                {"name": "courier", "state": courier},
                {"name": "main", "state": main or RUNNING},
            ],
            **status,
        },
    }
