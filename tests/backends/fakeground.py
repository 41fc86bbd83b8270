"""The fake backend's cluster as a ground."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from backends.fake import Fake, FakeOptions
from backends.fake_cluster import Cluster
from tests.backends.grounds import Ground


@contextlib.asynccontextmanager
async def stand(folder: Path) -> AsyncIterator[Ground]:
    source, cluster = folder / "source", Cluster(folder / "cluster")
    source.mkdir()
    options = FakeOptions(rejects=True)
    ground = Ground(
        lambda: Fake(cluster.folder, options),
        source,
        count=lambda handle: cluster.launched().count(handle["name"]),
    )
    yield ground
    for adapter in ground.opened:
        await adapter.close()
