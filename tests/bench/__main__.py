"""The benchmarks: `python -m tests.bench [NAME…]`, all without a name; `python -m tests.bench soak` beside them."""

import asyncio

from tests.bench import (
    containers,
    draining,
    ingest,
    launching,
    lists,
    logging,
    logs,
    metrics,
    pages,
    series,
    server,
    watching,
)
from tests.bench.asked import asked
from tests.bench.rows import show

BENCHES = {
    "containers": containers.rows,
    "draining": draining.rows,
    "ingest": ingest.rows,
    "launching": launching.rows,
    "lists": lists.rows,
    "logging": logging.rows,
    "logs": logs.rows,
    "metrics": metrics.rows,
    "pages": pages.rows,
    "series": series.rows,
    "watching": watching.rows,
    "soak": watching.soak,
}


def main() -> None:
    """Run and print."""
    found = asked(BENCHES)
    server.DATABASE = found.url or None
    for name in found.names or [name for name in BENCHES if name != "soak"]:
        show(asyncio.run(BENCHES[name]()))


main()
