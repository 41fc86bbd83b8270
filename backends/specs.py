"""What an adapter is told of an attempt: one JobSpec, made of what the database says and of what surrounds it."""

from backends import base
from backends.base import LaunchRejected
from backends.surroundings import Surroundings
from db import contracts, ids
from db.claims import Launch


def of(launch: Launch, around: Surroundings) -> base.JobSpec:
    """What the backend is to launch; raises LaunchRejected where it never could."""
    function = launch.function
    if not function.command and not around.adapter.capabilities.needs_container:
        raise LaunchRejected("needs a container: its function states no command")
    document = contracts.input_document(
        function.name,
        launch.arguments,
        [contracts.JobFile(file.name, file.tags) for file in launch.inputs],
        run_id=ids.encode("run", launch.run_id),
        job_id=ids.encode("job", launch.job_id),
        attempt=launch.number,
        datasets=[(one.dataset, one.version, one.part, one.file) for one in launch.datasets],
        sources=[(one.name, one.url) for one in launch.grant.sources],
    )
    resources = launch.resources
    return base.JobSpec(
        name=launch.name,
        command=function.command,
        source=around.store / launch.digest,
        prepared=launch.prepared,
        input_document=document,
        inputs=tuple(base.InputFile(file.name, around.blobs.path(file.sha256)) for file in launch.inputs),
        environment={
            **around.environment(launch),
            **function.environment,
            **around.vault.environment(launch.grant),
        },
        workers=launch.workers,
        resources=base.Resources(resources.cpus, resources.memory_bytes, resources.gpus),
        devices=launch.devices,
        client=around.client,
        network=function.network,
        labels={
            "run": ids.encode("run", launch.run_id),
            "job": ids.encode("job", launch.job_id),
            "attempt": str(launch.number),
        },
    )
