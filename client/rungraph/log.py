"""`rungraph.log`: what training code measures, on its way to the run it belongs to; the standard library alone.

    import rungraph
    rungraph.log({"loss": 0.31, "accuracy": 0.9}, step=120)

Inside a job that is all: the job's environment says where to. Elsewhere `rungraph.run` makes a run that this
process reports to. Logging neither waits nor raises: reporter.py has the threads that do the work, spool.py
what survives them, sender.py what the server is told. Nothing of these is imported before the first point.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any, Self

    from rungraph.reporter import Reporter

HEARTBEAT_SECONDS = 30.0
UNKNOWN_HEARTBEAT_SECONDS = 15.0
"""Where the run was made by somebody else, who may have asked for a short one."""

_current: "Reporter | None" = None


def log(metrics: "Mapping[str, Any] | None" = None, /, *, step: "int | None" = None, **values: "Any") -> None:
    """Log numbers by name, to the run of `rungraph.run` or else to this process's job.

    Without `step` each metric counts by itself. Values are numbers or scalars of numpy, torch and the like, NaN
    and infinities included; what is no number is left out with a warning, or raises ValueError where
    RUNGRAPH_STRICT is set.
    """
    (_current or _of_environment()).log(metrics, step, values)


def flush(seconds: float = 30.0) -> bool:
    """Wait until the server has everything that was logged; False when it has not by then."""
    return (_current or _of_environment()).flush(seconds)


def finish(seconds: "float | None" = None) -> bool:
    """Send what is left and end the run, SUCCEEDED: that of `rungraph.run`, or of the token that was logged with.

    The end of the process ends that of `rungraph.run` by itself; a job ends with its process, whatever is said here.
    """
    global _current
    reporter, _current = _current, None
    return True if reporter is None else reporter.end({"state": "SUCCEEDED"}, seconds)


def run(
    name: str = "",
    *,
    tags: "Mapping[str, str] | None" = None,
    notes: str = "",
    step: str = "main",
    parent: "str | None" = None,
    project: "str | None" = None,
    key: "str | None" = None,
    url: "str | None" = None,
    token: "str | None" = None,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    strict: "bool | None" = None,
) -> "Run":
    """A run that this process reports to; a context manager, or until `finish` or the end of the process.

    `name` is the script's when not given. Without `url` and `token` they are found as the command finds them:
    RUNGRAPH_URL and RUNGRAPH_TOKEN, or RUNGRAPH_HOME. The same `key` with the same rest goes on with the run that
    it made before, also in another process. Inside a job it is the job's own run, and nothing is made.
    """
    from rungraph import targets

    global _current
    strict = _is_strict() if strict is None else strict
    wanted = {
        "name": name or targets.script(),
        "step": step,
        "notes": notes,
        "tags": [{"name": str(tag), "value": str(value)} for tag, value in (tags or {}).items()],
        "heartbeatSeconds": float(heartbeat_seconds),
        **({"parent": parent} if parent else {}),
        **({"project": project} if project else {}),
    }
    before = _current
    _current = targets.reporter(wanted, key=key, url=url, token=token, strict=strict)
    return Run(_current, before)


class Run:
    """A run that this process reports to."""

    def __init__(self, reporter: "Reporter", before: "Reporter | None" = None) -> None:
        self._reporter = reporter
        self._before = before

    def log(
        self, metrics: "Mapping[str, Any] | None" = None, /, *, step: "int | None" = None, **values: "Any"
    ) -> None:
        """Log numbers by name to this run, as `rungraph.log` does."""
        self._reporter.log(metrics, step, values)

    def flush(self, seconds: float = 30.0) -> bool:
        """Wait until the server has everything that was logged; False when it has not by then."""
        return self._reporter.flush(seconds)

    def finish(
        self,
        state: str = "SUCCEEDED",
        *,
        message: "str | None" = None,
        exit_code: "int | None" = None,
        seconds: "float | None" = None,
    ) -> bool:
        """Send what is left and say how it ended; False when the server did not get that in time."""
        global _current
        if _current is self._reporter:
            _current = self._before
        given = {"message": message and message[:10_000], "exitCode": exit_code}
        ending = {"state": state, **{name: value for name, value in given.items() if value is not None}}
        return self._reporter.end(ending, seconds)

    @property
    def id(self) -> "str | None":
        """The run's id; None until the server has answered."""
        return self._reporter.sender.run_id

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked this run to stop; it is told so with the next heartbeat."""
        return self._reporter.sender.cancel_requested

    def __reduce__(self) -> "tuple[Any, ...]":
        """To another process, which reports to the same run for itself; its end stays ours to tell."""
        from rungraph import targets

        return targets.shared, self._reporter.share()

    def __deepcopy__(self, memo: object) -> "Self":
        return self

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self,
        kind: "type[BaseException] | None",
        error: "BaseException | None",
        trace: "TracebackType | None",
    ) -> None:
        match error:
            case None:
                self.finish()
            case SystemExit(code=None | 0):
                self.finish(exit_code=0)
            case SystemExit(code=int() as code):
                self.finish("FAILED", message=f"exit code {code}", exit_code=code)
            case KeyboardInterrupt():
                self.finish("CANCELLED", message="interrupted from the keyboard")
            case _:
                self.finish("FAILED", message=f"{type(error).__name__}: {error}")


def active() -> Run:
    """What `rungraph.log` reports to."""
    return Run(_current or _of_environment())


def _of_environment() -> "Reporter":
    from rungraph import targets

    global _current
    _current = targets.of_environment(strict=_is_strict())
    return _current


def _is_strict() -> bool:
    return os.environ.get("RUNGRAPH_STRICT", "") not in ("", "0")
