"""Objects as the server answers them, whole enough for any selection the command makes."""

from typing import Any

RUN = "run_" + "1" * 26
PIPELINE = "pipeline_" + "2" * 26
FILE = "file_" + "3" * 26
JOB = "job_" + "4" * 26
AT = "2026-11-20T12:00:00+00:00"
LATER = "2026-11-20T12:00:03+00:00"

Json = dict[str, Any]


def run(state: str = "RUNNING", jobs: list[Json] | None = None, **changed: Any) -> Json:
    """A run of the pipeline “digits”, six events old."""
    times = {"createdAt": AT, "startedAt": AT, "endedAt": None, "durationSeconds": 3.0}
    about = {"id": RUN, "name": "digits 1", "state": state, "priority": 0, "seq": 6, "waitingFor": None}
    about |= {"suspended": False, "fire": None}
    jobs = [job("train", state)] if jobs is None else jobs
    found = {"pipeline": pipeline(), "tags": [], "metrics": [], "jobs": jobs}
    return {"__typename": "Run", **about, **times, **found, **changed}


def job(step: str, state: str = "RUNNING", **changed: Any) -> Json:
    """A job of that run."""
    times = {"startedAt": AT, "endedAt": None, "durationSeconds": 3.0}
    why = {"reason": None, "message": None, "exitCode": None, "workers": 1}
    return {
        "id": JOB,
        "step": step,
        "state": state,
        **why,
        **times,
        "outputs": [],
        "reusedFrom": None,
        **changed,
    }


def pipeline(name: str = "digits") -> Json:
    """A pipeline of one step."""
    step = {"name": "train", "address": "digits/train", "arguments": {}, "needs": []}
    revision = {"number": 1, "steps": [step]}
    return {"id": PIPELINE, "name": name, "description": "", "createdAt": AT, "revision": revision}


def version(state: str, **changed: Any) -> Json:
    """A module version as `node` answers it."""
    about = {"__typename": "ModuleVersion", "id": "v", "number": 2, "source": "/src", "digest": None}
    parts: Json = {
        "message": None,
        "module": {"id": "m", "name": "digits"},
        "problems": [],
        "notes": [],
        "preparations": [],
        "sameAs": None,
        "ref": None,
        "folder": None,
        "commit": None,
    }
    function = {"name": "train", "address": "digits/train", "description": "Learns."}
    return {**about, "state": state, **parts, "functions": [function], **changed}


def connection(nodes: list[Json], cursor: str | None = None) -> Json:
    """One page; there is another when it has a cursor."""
    return {"nodes": nodes, "pageInfo": {"hasNextPage": cursor is not None, "endCursor": cursor}}


def line(text: str, stream: str = "STDOUT", number: int = 1, rank: int = 0) -> Json:
    """A log line."""
    place = {"number": number, "rank": rank, "attempt": 1, "seq": 7}
    return {"time": 1_763_640_000_000_000, "stream": stream, "text": text, **place}


def refusal(code: str, message: str, *path: str) -> Json:
    """A payload that did nothing but say why."""
    return {"errors": [{"code": code, "message": message, "path": list(path), "retryable": False}]}


def events(*given: tuple[str, Json], first: int = 7) -> list[Json]:
    """Events of a feed with their numbers, and its end."""
    found = [
        {"__typename": kind, "seq": first + at, "at": LATER, **rest} for at, (kind, rest) in enumerate(given)
    ]
    return [*found, {"__typename": "FeedEnded", "seq": first + len(given)}]


def uploading() -> Json:
    """What a server answers, field by field, to whoever uploads a file."""
    ready = {"id": FILE, "name": "f", "state": "READY", "sizeBytes": 1, "sha256": "0", "mediaType": "a/b"}
    return {
        "createUpload": {"file": ready, "upload": {"url": "/contents/f"}, "errors": []},
        "completeUpload": {"file": ready, "errors": []},
    }
