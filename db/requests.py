"""What a user asks of a pipeline: one shape for a run that starts now and for what a schedule starts again and again.

plans.py adds what only a start says (which pipeline, under which key), schedules.py keeps a request as JSON.
Nothing is checked here: what it asks for may be gone by the time it is started.
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

from db import policies
from db.policies import Rule
from db.resources import StepResources


@dataclass(frozen=True, slots=True)
class DatasetUse:
    """What a user asks for: a dataset (its latest version, as of the start) or a version; no parts means all."""

    dataset_id: bytes | None = None
    version_id: bytes | None = None
    parts: tuple[str, ...] = ()

    def document(self) -> list[Any]:
        """What tells this request from another one, as JSON holds it."""
        keys = [key.hex() if key else None for key in (self.dataset_id, self.version_id)]
        return [*keys, list(self.parts)]


@dataclass(frozen=True, slots=True)
class Request:
    """`arguments` overrides per step name what the pipeline says.

    Without `cache` no job takes its outputs from another, whatever its step says.
    """

    backend: str
    _: KW_ONLY
    name: str | None = None
    priority: int = 0
    arguments: Sequence[tuple[str, Mapping[str, Any]]] = ()
    resources: Sequence[StepResources] = ()
    retry: Sequence[Rule] = ()
    files: Sequence[bytes] = ()
    datasets: Sequence[DatasetUse] = ()
    sources: Sequence[bytes] = ()
    tags: Sequence[tuple[str, str]] = ()
    fail_fast: bool = False
    cache: bool = True

    def asked(self) -> dict[str, Any]:
        """Its fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(Request)}


def encode(request: Request) -> dict[str, Any]:
    """A request as JSON."""
    return {
        **request.asked(),
        "arguments": [[step, dict(given)] for step, given in request.arguments],
        "resources": [each.document() for each in request.resources],
        "retry": policies.documents(request.retry),
        "files": [file.hex() for file in request.files],
        "datasets": [use.document() for use in request.datasets],
        "sources": [source.hex() for source in request.sources],
        "tags": [[name, value] for name, value in request.tags],
    }


def decode(document: Mapping[str, Any]) -> Request:
    """The inverse of `encode`; what a request kept by an older version does not say is as if not given."""
    given = {
        **document,
        "arguments": [(step, values) for step, values in document["arguments"]],
        "resources": [StepResources(**each) for each in document.get("resources", ())],
        "retry": policies.rules_of(document.get("retry", ())),
        "files": [bytes.fromhex(file) for file in document["files"]],
        "datasets": [_use(*use) for use in document.get("datasets", ())],
        "sources": [bytes.fromhex(source) for source in document.get("sources", ())],
        "tags": [(name, value) for name, value in document["tags"]],
    }
    return Request(**given)


def _use(dataset: str | None, version: str | None, parts: Sequence[str]) -> DatasetUse:
    dataset_id, version_id = (None if key is None else bytes.fromhex(key) for key in (dataset, version))
    return DatasetUse(dataset_id, version_id, tuple(parts))
