"""Every table, for whoever needs the whole: migrations and the tests of the schema.

A new aggregate adds its module here and nothing else outside its own files.
"""

from db import (
    arguments,
    attempts,
    backends,
    batches,
    data_fetches,
    data_sources,
    dataset_uses,
    datasets,
    externals,
    feeds,
    files,
    fires,
    headlines,
    jobs,
    leases,
    logs,
    metrics,
    modules,
    pipelines,
    preparations,
    projects,
    runs,
    schedules,
    secrets,
    source_uses,
    steps,
    users,
    views,
)
from db.columns import Base

MODULES = (
    arguments,
    attempts,
    backends,
    batches,
    data_fetches,
    data_sources,
    dataset_uses,
    datasets,
    externals,
    feeds,
    files,
    fires,
    headlines,
    jobs,
    leases,
    logs,
    metrics,
    modules,
    pipelines,
    preparations,
    projects,
    runs,
    schedules,
    secrets,
    source_uses,
    steps,
    users,
    views,
)
METADATA = Base.metadata
VERSION_TABLE = "rungraph_version"
