"""The server's entrance: `python -m graph.serve`, what `rungraph serve`, `supervise` and `migrate` call.

A start is mostly imports, so they happen here, with the garbage collector off (nothing imported is garbage,
and looking for some costs a tenth) and without rich, which structlog would load for tracebacks that a
server's log does not show.
"""

import argparse
import gc
import sys
from types import ModuleType


def serve(host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve until SIGINT or SIGTERM. One server a home."""
    _serving().serve(host, port)


def supervise() -> None:
    """Supervise the configured backends until SIGINT or SIGTERM, without serving the API. One a home."""
    _serving().supervise()


def migrate() -> None:
    """Create the database or bring it up to date."""
    _serving().migrate()


def main() -> None:
    """`python -m graph.serve [--host HOST] [--port PORT] [--alone]`; alone is without the API."""
    parser = argparse.ArgumentParser(description=serve.__doc__)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    asked = parser.parse_args()
    if asked.alone:
        supervise()
    else:
        serve(asked.host, asked.port)


def _serving() -> ModuleType:
    gc.disable()
    if "rich" not in sys.modules:
        sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        from graph import serving
    finally:
        gc.freeze()
        gc.enable()
    return serving


if __name__ == "__main__":
    main()
