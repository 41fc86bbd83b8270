"""`python -m tests.bench [WORD…]`: run the benchmarks whose name has one of the words, or all.

`python -m tests.bench soak --minutes 10`: the server's memory over a while.
`--url postgresql://…` has the servers work on that PostgreSQL server, each with a database of its own.
"""

import asyncio
import sys

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
}


def main() -> None:
    """Run and print."""
    if sys.argv[1:2] == ["soak"]:
        minutes = float(sys.argv[3]) if sys.argv[2:3] == ["--minutes"] else 10.0
        show(asyncio.run(watching.soak(minutes)))
        return
    if "--url" in sys.argv:
        server.DATABASE = sys.argv[sys.argv.index("--url") + 1]
    words = [word for word in sys.argv[1:] if word.isalpha()]
    for name, bench in BENCHES.items():
        if not words or any(word in name for word in words):
            show(asyncio.run(bench()))


main()
