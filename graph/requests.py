"""What is asked of a pipeline, in and out: the same for startRun and for what a schedule starts."""

from dataclasses import asdict

import strawberry
from strawberry.scalars import JSON

from db import requests
from db.policies import Rule
from db.resources import StepResources
from graph import steps
from graph.context import Context
from graph.filters import TagInput
from graph.functions import RetryRule
from graph.nodes import key, public
from graph.runs import Tag
from graph.scalars import Int64
from graph.states import EndReason


@strawberry.input(description="Arguments for one step of a run.")
class StepArgumentsInput:
    """Overrides."""

    step: str = strawberry.field(description="The step's name.")
    arguments: strawberry.scalars.JSON = strawberry.field(
        description="Options by name; they take the place of the pipeline's."
    )


@strawberry.input(description="What the jobs of a step ask for in the place of what their function states.")
class StepResourcesInput:
    """Resources of a step."""

    step: str = strawberry.field(description="The step's name.")
    workers: int | None = strawberry.field(default=None, description="How many run together.")
    cpus: float | None = strawberry.field(default=None, description="Cores of each worker.")
    memory_bytes: Int64 | None = strawberry.field(default=None, description="Memory of each worker.")
    gpus: int | None = strawberry.field(default=None, description="GPUs of each worker.")

    def resources(self) -> StepResources:
        """What it means for db."""
        return StepResources(self.step, self.workers, self.cpus, self.memory_bytes, self.gpus)


@strawberry.input(description="How often another attempt follows those that ended for a reason.")
class RetryRuleInput:
    """A rule."""

    reason: EndReason = strawberry.field(
        description="PREEMPTED, LOST, IMAGE_UNAVAILABLE, OUT_OF_MEMORY, EXIT_CODE or TIMED_OUT."
    )
    times: int = strawberry.field(description="How many of them are followed by another, 0 to 100.")
    memory_factor: float = strawberry.field(
        default=1.0, description="After OUT_OF_MEMORY: so many times the memory for the next, 1 to 16."
    )
    most_memory_bytes: Int64 | None = strawberry.field(default=None, description="No more than this.")

    def rule(self) -> Rule:
        """What it means for db."""
        return Rule(self.reason, self.times, self.memory_factor, self.most_memory_bytes)


@strawberry.input(description="A dataset as input of a run: give a dataset or a version.")
class RunDatasetInput:
    """A dataset of a run."""

    dataset: strawberry.ID | None = strawberry.field(
        default=None, description="Its latest version, as of the start."
    )
    version: strawberry.ID | None = strawberry.field(default=None, description="This very version.")
    parts: list[str] = strawberry.field(default_factory=list, description="All parts when none is given.")

    def use(self, *at: str) -> requests.DatasetUse:
        """What it means for db."""
        dataset, version = (
            None if text is None else key(kind, text, *at, field)
            for kind, text, field in (
                ("dataset", self.dataset, "dataset"),
                ("dataset_version", self.version, "version"),
            )
        )
        return requests.DatasetUse(dataset, version, tuple(self.parts))


@strawberry.input
class RequestInput:
    """What every input that starts a run says; each is a type of its own in the schema."""

    backend: str | None = strawberry.field(
        default=None, description="Where, by name; the first that is configured when not given."
    )
    name: str | None = strawberry.field(default=None, description="The pipeline's when not given.")
    priority: int = strawberry.field(default=0, description="-1000 to 1000; higher ones first.")
    arguments: list[StepArgumentsInput] = strawberry.field(default_factory=list, description="Overrides.")
    resources: list[StepResourcesInput] = strawberry.field(
        default_factory=list, description="At most one a step; what is not given stays the function's."
    )
    retry: list[RetryRuleInput] = strawberry.field(
        default_factory=list,
        description="At most one a reason, before what its functions say; a page of the documentation has more.",
    )
    files: list[strawberry.ID] = strawberry.field(default_factory=list, description="Input files, in order.")
    datasets: list[RunDatasetInput] = strawberry.field(
        default_factory=list, description="Their files become inputs after `files`, each once; at most 20."
    )
    sources: list[strawberry.ID] = strawberry.field(
        default_factory=list, description="Data sources that its jobs read for themselves; at most 20."
    )
    tags: list[TagInput] = strawberry.field(default_factory=list, description="At most 100.")
    fail_fast: bool = strawberry.field(
        default=False, description="Skip what is not launched after a failure."
    )
    cache: bool = strawberry.field(
        default=True, description="False: no job takes its outputs from another, whatever its step says."
    )


def request_of(context: Context, given: RequestInput, *at: str) -> requests.Request:
    """What is asked for, as the system of record takes it; raises what is wrong in how it is written."""
    return requests.Request(
        backend=context.around.backend if given.backend is None else given.backend,
        name=given.name,
        priority=given.priority,
        arguments=[
            (one.step, steps.arguments(one.arguments, *at, "arguments", str(index), "arguments"))
            for index, one in enumerate(given.arguments)
        ],
        resources=[one.resources() for one in given.resources],
        retry=[one.rule() for one in given.retry],
        files=[key("file", text, *at, "files", str(index)) for index, text in enumerate(given.files)],
        datasets=[one.use(*at, "datasets", str(index)) for index, one in enumerate(given.datasets)],
        sources=[
            key("data_source", text, *at, "sources", str(index)) for index, text in enumerate(given.sources)
        ],
        tags=[(tag.name, tag.value) for tag in given.tags],
        fail_fast=given.fail_fast,
        cache=given.cache,
    )


@strawberry.type(description="Arguments for one step.")
class StepArguments:
    """Overrides."""

    step: str = strawberry.field(description="The step's name.")
    arguments: JSON = strawberry.field(description="Options by name.")


@strawberry.type(description="What the jobs of a step ask for in the place of what their function states.")
class RequestedResources:
    """Resources of a step."""

    step: str = strawberry.field(description="The step's name.")
    workers: int | None = strawberry.field(description="How many run together; the function's when null.")
    cpus: float | None = strawberry.field(description="Cores of each worker; the function's when null.")
    memory_bytes: Int64 | None = strawberry.field(
        description="Memory of each worker; the function's when null."
    )
    gpus: int | None = strawberry.field(description="GPUs of each worker; the function's when null.")


@strawberry.type(description="A dataset that each run is given.")
class RequestedDataset:
    """A dataset of a request."""

    dataset: strawberry.ID | None = strawberry.field(description="Its latest version, as of each start.")
    version: strawberry.ID | None = strawberry.field(description="Or this very version.")
    parts: list[str] = strawberry.field(description="All parts when empty.")


@strawberry.type(description="What a schedule starts, in the words of startRun.")
class ScheduledRun:
    """The request of each fire."""

    name: str | None = strawberry.field(description="The pipeline's when null.")
    priority: int = strawberry.field(description="Higher ones first.")
    arguments: list[StepArguments] = strawberry.field(description="Overrides.")
    resources: list[RequestedResources] = strawberry.field(description="At most one a step.")
    retry: list[RetryRule] = strawberry.field(description="At most one a reason.")
    files: list[strawberry.ID] = strawberry.field(description="Input files; what arrives comes after them.")
    datasets: list[RequestedDataset] = strawberry.field(description="Their files become inputs too.")
    sources: list[strawberry.ID] = strawberry.field(description="Data sources that jobs read for themselves.")
    tags: list[Tag] = strawberry.field(description="On each run.")
    fail_fast: bool = strawberry.field(description="Skip what is not launched after a failure.")
    cache: bool = strawberry.field(description="False: no job takes its outputs from another.")
    backend: str = strawberry.field(description="Where.")

    @classmethod
    def of(cls, request: requests.Request) -> "ScheduledRun":
        return cls(
            name=request.name,
            priority=request.priority,
            arguments=[
                StepArguments(step=step, arguments=JSON(dict(given))) for step, given in request.arguments
            ],
            resources=[RequestedResources(**asdict(each)) for each in request.resources],
            retry=[RetryRule.of(rule) for rule in request.retry],
            files=[public("file", file) for file in request.files],
            datasets=[_dataset(use) for use in request.datasets],
            sources=[public("data_source", source) for source in request.sources],
            tags=[Tag(name=name, value=value) for name, value in request.tags],
            fail_fast=request.fail_fast,
            cache=request.cache,
            backend=request.backend,
        )


def _dataset(use: requests.DatasetUse) -> RequestedDataset:
    dataset, version = (
        None if key is None else public(kind, key)
        for kind, key in (("dataset", use.dataset_id), ("dataset_version", use.version_id))
    )
    return RequestedDataset(dataset=dataset, version=version, parts=list(use.parts))
