"""Reading what the server says: data, or one of the errors of errors.py.

The same rules serve HTTP answers, WebSocket messages and plain file responses. A mutation's payload that
carries user errors is Refused here, once, so that no caller has to look for them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from rungraph.errors import ApiError, Refused, UserError

STATUS_CODES = {
    400: "INVALID",
    401: "UNAUTHENTICATED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    409: "CONFLICT",
    413: "LIMIT_EXCEEDED",
    422: "INVALID",
    429: "LIMIT_EXCEEDED",
    503: "UNAVAILABLE",
}


def read_answer(response: httpx.Response) -> dict[str, Any]:
    """The `data` of a GraphQL answer over HTTP; raises ApiError, or Refused for a payload's own errors."""
    body = _json_object(response)
    if body is None:
        raise failure(response)
    raise_errors(body, STATUS_CODES.get(response.status_code, "INTERNAL"))
    data = body.get("data")
    if not isinstance(data, dict):
        raise failure(response)
    raise_refusals(data)
    return data


def raise_errors(body: Mapping[str, Any], default_code: str = "INTERNAL") -> None:
    """Raises the first of an answer's top-level errors as ApiError."""
    if not body.get("errors"):
        return
    error = body["errors"][0]
    extensions = error.get("extensions") or {}
    raise ApiError(
        extensions.get("code") or default_code,
        error.get("message") or "the server gave no reason",
        path=error.get("path") or (),
        request_id=extensions.get("requestId"),
        retryable=extensions.get("retryable"),
    )


def raise_refusals(data: Mapping[str, Any]) -> None:
    """Raises Refused when a payload in `data` carries user errors."""
    refusals: list[Mapping[str, Any]] = []
    for payload in data.values():
        if isinstance(payload, dict) and isinstance(payload.get("errors"), list):
            refusals += payload["errors"]
    if refusals:
        raise Refused(_user_errors(refusals))


def failure(response: httpx.Response) -> ApiError:
    """What a response that has no data means: its own first error; else its body, when short, is the reason."""
    status = response.status_code
    body = _json_object(response) or {}
    try:
        raise_errors(body, STATUS_CODES.get(status, "INTERNAL"))
    except ApiError as error:
        return error
    reason = body.get("message") or (response.text.strip() if len(response.text) <= 300 else "")
    if "<" in reason or not reason:
        reason = response.reason_phrase or "no reason given"
    code = STATUS_CODES.get(status, "INTERNAL")
    return ApiError(code, f"{response.request.url.copy_with(query=None)} answered {status}: {reason}")


def _user_errors(errors: Sequence[Mapping[str, Any]]) -> list[UserError]:
    return [
        UserError(
            error.get("code", "INVALID"),
            error.get("message", ""),
            tuple(str(part) for part in error.get("path") or ()),
            bool(error.get("retryable")),
        )
        for error in errors
    ]


def _json_object(response: httpx.Response) -> dict[str, Any] | None:
    try:
        body = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return body if isinstance(body, dict) else None
