"""The exit codes of the command, which scripts may rely on.

0  done
1  the work failed (a run FAILED or CANCELLED, a module that is invalid) or the server refused
2  the command was not understood
3  there is no such thing, or it may not be seen
4  no server answers, or it cannot at the moment
5  no valid token, or it does not allow this
6  a server cannot start here: its port or its home is another's
130  interrupted by Ctrl-C
"""

from rungraph.errors import ApiError, BadUsage, Refused, Unreachable

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
UNAVAILABLE = 4
FORBIDDEN = 5
IN_USE = 6  # graph/serving.py has the same number
INTERRUPTED = 130

_CODES = {
    "NOT_FOUND": NOT_FOUND,
    "UNAVAILABLE": UNAVAILABLE,
    "UNAUTHENTICATED": FORBIDDEN,
    "FORBIDDEN": FORBIDDEN,
}


def of(error: Exception) -> int:
    """The exit code that tells a script what kind of error this was."""
    match error:
        case Unreachable():
            return UNAVAILABLE
        case BadUsage():
            return USAGE
        case ApiError(code=code):
            return _CODES.get(code, FAILED)
        case Refused(errors=errors):
            return _CODES.get(errors[0].code, FAILED)
    return FAILED
