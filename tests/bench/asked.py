"""What the benchmarks were asked to do, on the command line."""

import argparse
from collections.abc import Iterable


def asked(known: Iterable[str] = ()) -> argparse.Namespace:
    """The names, of those that are known if that is asked, and the options of those that have any."""
    names = ", ".join(known)
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="What Rungraph does, beside limits."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all but soak when none: {names}")
    parser.add_argument(
        "--url",
        default="",
        help="a PostgreSQL server, postgresql://…: each benchmark makes a database of its own",
    )
    parser.add_argument("--runs", type=int, default=10_000, help="how many runs `lists` has (10000)")
    parser.add_argument("--folder", help="where `lists` keeps what it loaded, for another time")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long `soak` watches the memory (10)")
    found = parser.parse_args()
    if names and (unknown := set(found.names) - set(names.split(", "))):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {names}")
    return found
