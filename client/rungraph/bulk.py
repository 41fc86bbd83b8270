"""One command for several runs: what became of each, line by line, and the exit code of the first refusal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rungraph import exits
from rungraph.api import Client
from rungraph.errors import ApiError
from rungraph.output import Output

MOST = 100
"""What the server takes at most in one request."""


async def each(
    client: Client, output: Output, document: str, field: str, ids: Sequence[str], **input: Any
) -> int:
    """Performs a bulk mutation that takes `ids` on all of them, however many; it is harmless to repeat."""
    code, told = exits.OK, []
    for start in range(0, len(ids), MOST):
        some = list(ids[start : start + MOST])
        wanted = {"input": {**input, "ids": some}}
        results = (await client.execute(document, wanted, repeatable=True))[field]["results"]
        told += [{**result, "id": id} for id, result in zip(some, results, strict=True)]
    for result in told:
        refused = _show(output, result)
        code = code or refused
    if output.as_json:
        output.document(told)
    return code


def _show(output: Output, result: Mapping[str, Any]) -> int:
    """Tells what became of one; its exit code."""
    errors = result["errors"]
    if errors:
        output.say(f"{result['id']}: {'; '.join(error['message'] for error in errors)}")
        return exits.of(ApiError(errors[0]["code"], errors[0]["message"]))
    state = (result.get("run") or {}).get("state", "deleted")
    if not output.as_json:
        output.write(f"{result['id']} {state}")
    return exits.OK
