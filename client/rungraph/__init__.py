"""Rungraph from the outside: what training code imports, the API client and the command.

Importing this package needs the standard library alone, because it stands in the environment of every job.
`rungraph.api` and the command `rungraph` want the extra: `pip install 'rungraph[cli]'`.
"""

from rungraph.log import Run, finish, flush, log, run

__all__ = ["Run", "finish", "flush", "log", "run"]
