"""The job contract: the input.json a job reads, and what its output folder and output.json amount to.

A superset of MLsploit's contract, whose modules run unchanged. Exit code decides success; the output
document decides outputs, and one that lies ends the attempt BAD_OUTPUT with everything wrong named at once,
so that its author mends it in one go. Pure: the caller reads folders and keeps contents. The problems'
paths lead into the document (`("tags", 1, "hits")`), or name a file alone where there is no document.
"""

import enum
import itertools
import json
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from db import manifests, texts
from db.manifests import Problem, Scalar

INPUT_DOCUMENT = "input.json"
OUTPUT_DOCUMENT = "output.json"

MAX_DOCUMENT_BYTES = 4 << 20
"""An output.json beyond this is refused unread: 10,000 files with ten tags each fit four times."""


@dataclass(frozen=True, slots=True)
class JobFile:
    """An input file as a job sees it; `origin` says in messages where it came from ("step split")."""

    name: str
    tags: Mapping[str, Scalar] = field(default_factory=dict)
    origin: str = ""


class OutputKind(enum.Enum):
    """New, another state of the input of that name, or that very input handed on."""

    CREATED = "CREATED"
    MODIFIED = "MODIFIED"
    UNCHANGED = "UNCHANGED"


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One file a job hands on. UNCHANGED takes no content from the folder, only tags."""

    name: str
    kind: OutputKind
    tags: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a job made, or else everything that is wrong with it."""

    files: tuple[OutputFile, ...]
    problems: tuple[Problem, ...] = ()


def input_document(
    function: str,
    arguments: Mapping[str, Any],
    files: Sequence[JobFile],
    *,
    run_id: str,
    job_id: str,
    attempt: int,
    datasets: Sequence[tuple[str, int, str, str]] = (),
    sources: Sequence[tuple[str, str]] = (),
) -> bytes:
    """The text of input.json; `files` and `tags` run in parallel. ASCII, so that any reader reads it.

    `datasets` are (dataset, version, part, file name) and `sources` (name, URL), in order.
    """
    document = {
        "name": function,
        "options": dict(arguments),
        "num_files": len(files),
        "files": [file.name for file in files],
        "tags": [dict(file.tags) for file in files],
        "run_id": run_id,
        "job_id": job_id,
        "attempt": attempt,
        "datasets": _datasets(datasets),
        "sources": [{"name": name, "url": url} for name, url in sources],
    }
    return json.dumps(document, allow_nan=False).encode("ascii")


def _datasets(placed: Sequence[tuple[str, int, str, str]]) -> list[dict[str, Any]]:
    found: dict[tuple[str, int], dict[str, list[str]]] = {}
    for dataset, version, part, name in placed:
        found.setdefault((dataset, version), {}).setdefault(part, []).append(name)
    return [{"name": name, "version": version, "parts": parts} for (name, version), parts in found.items()]


def check_inputs(
    function: manifests.Function, arguments: Mapping[str, Any], files: Sequence[JobFile]
) -> tuple[Problem, ...]:
    """What speaks against starting the function on these files: BAD_INPUT, known before launch."""
    names = [file.name for file in files]
    return (
        *_twice(files),
        *(Problem((name,), message) for name in names if (message := name_problem(name))),
        *(Problem((file.name,), message) for file in files if (message := _unaccepted(function, file))),
        *_missing_file_options(function, arguments, names),
    )


def read_output(
    document: bytes | None,
    folder_files: Mapping[str, int],
    input_names: Set[str],
    function: manifests.Function,
) -> Outputs:
    """What the output folder amounts to: `folder_files` are its regular files (name to size in bytes).

    Without a document every file is a created one. With it only what `files` lists counts. A listed file
    that is in neither subset is the input of that name handed on; if there is no such input, or if the
    document has no subsets at all, the folder decides: a file that lies there was created, or modified.
    """
    if document is None:
        return _whole_folder(folder_files, function)
    parsed = _parse(document)
    if problems := _told(_misshapen(parsed)):
        return Outputs((), problems)
    said = _said(parsed)
    kinds = [_kind(name, said, folder_files, input_names) for name in said.files]
    lies = itertools.chain(
        _false_name(parsed, function),
        _false_files(said, kinds, folder_files, function),
        _false_subsets(said, input_names),
        _false_tags(said, function),
    )
    if problems := _told(lies):
        return Outputs((), problems)
    tags = said.tags or ({},) * len(said.files)
    return Outputs(tuple(map(OutputFile, said.files, kinds, tags)))


def name_problem(name: str) -> str | None:
    """Why no file of a job can have this name: names are flat, storable, and not the contract's own."""
    if name in (INPUT_DOCUMENT, OUTPUT_DOCUMENT):
        return "is the name of the job's own document"
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        return "must be a plain file name, without a folder"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        return "has characters that cannot be shown or stored"
    return "is longer than 255 bytes" if len(name.encode()) > 255 else None


def _twice(files: Sequence[JobFile]) -> Iterator[Problem]:
    for name, count in Counter(file.name for file in files).items():
        if count > 1:
            origins = [file.origin for file in files if file.name == name and file.origin]
            whence = f": {' and '.join(origins)}" if origins else ""
            yield Problem((name,), f"{count} input files have this name{whence}")


def _unaccepted(function: manifests.Function, file: JobFile) -> str | None:
    if not function.accepts or any(_accepts(accept, file) for accept in function.accepts):
        return None
    wanted = ", or ".join(_wanted(accept) for accept in function.accepts)
    return f"is not what {function.name} takes: {wanted}"


def _accepts(accept: manifests.Accept, file: JobFile) -> bool:
    name = file.name.lower()
    typed = not accept.types or any(name.endswith(f".{kind}") for kind in accept.types)
    tagged = all(tag in file.tags for tag in accept.required_tags)
    return typed and tagged and all(file.tags.get(tag) == value for tag, value in accept.tags.items())


def _wanted(accept: manifests.Accept) -> str:
    types = " or ".join(f".{kind}" for kind in accept.types) or "any file"
    exact = [f"{tag}={value}" for tag, value in accept.tags.items()]
    tags = [*exact, *(tag for tag in accept.required_tags if tag not in accept.tags)]
    return f"{types} tagged {', '.join(tags)}" if tags else types


def _missing_file_options(
    function: manifests.Function, arguments: Mapping[str, Any], names: Collection[str]
) -> Iterator[Problem]:
    for option in function.options:
        value = arguments.get(option.name)
        if option.type is manifests.OptionType.FILE and isinstance(value, str) and value not in names:
            close = texts.suggestion(value, names)
            yield Problem(("options", option.name), f"no input file is named {value!r}{close}")


def _whole_folder(folder_files: Mapping[str, int], function: manifests.Function) -> Outputs:
    names = sorted(name for name in folder_files if name != OUTPUT_DOCUMENT)
    misnamed = (Problem((name,), message) for name in names if (message := name_problem(name)))
    undeclared = (Problem((name,), m) for name in names if (m := _unlike(function, OutputKind.CREATED)))
    problems = _told(itertools.chain(misnamed, undeclared))
    if problems:
        return Outputs((), problems)
    return Outputs(tuple(OutputFile(name, OutputKind.CREATED) for name in names))


def _told(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(itertools.islice(problems, manifests.MOST_PROBLEMS))


@dataclass(frozen=True, slots=True)
class _Said:
    """output.json, well-formed. The subsets are counted: an entry may wrongly come twice."""

    files: tuple[str, ...]
    created: Counter[str]
    modified: Counter[str]
    tags: tuple[dict[str, Any], ...]
    has_subsets: bool


def _said(document: Mapping[str, Any]) -> _Said:
    extra = document.get("files_extra", ())
    return _Said(
        files=tuple(document.get("files", ())),
        created=Counter(document.get("files_created", extra)),
        modified=Counter(document.get("files_modified", ())),
        tags=tuple(document.get("tags", ())),
        has_subsets=any(key in document for key in ("files_created", "files_extra", "files_modified")),
    )


def _parse(document: bytes) -> Any:
    """The JSON value, or a Problem in its place."""
    if len(document) > MAX_DOCUMENT_BYTES:
        return Problem((), f"output.json is larger than {MAX_DOCUMENT_BYTES >> 20} MiB")
    try:
        return json.loads(document)
    except (ValueError, RecursionError) as error:
        return Problem((), f"output.json is not JSON: {error}")


def _misshapen(document: Any) -> Iterator[Problem]:
    if isinstance(document, Problem):
        yield document
        return
    if not isinstance(document, dict):
        yield Problem((), f"output.json must be an object, not {texts.shown(document)}")
        return
    if "files" not in document:
        yield Problem(("files",), "is missing: the names of the files that this job hands on")
    if (
        document.get("files_extra", created := document.get("files_created")) != created
        and created is not None
    ):
        yield Problem(("files_extra",), "differs from files_created, whose old name it is; write one of them")
    for key in ("files", "files_created", "files_extra", "files_modified"):
        yield from _misshapen_names(key, document.get(key, []))
    tags = document.get("tags", [])
    if not isinstance(tags, list):
        yield Problem(("tags",), f"must be a list of objects, one for each file, not {texts.shown(tags)}")
        return
    for index, item in enumerate(tags):
        if not isinstance(item, dict):
            yield Problem(("tags", index), f"must be an object, not {texts.shown(item)}")


def _misshapen_names(key: str, names: Any) -> Iterator[Problem]:
    if not isinstance(names, list):
        yield Problem((key,), f"must be a list of file names, not {texts.shown(names)}")
        return
    for index, name in enumerate(names):
        if not isinstance(name, str):
            yield Problem((key, index), f"must be a file name, not {texts.shown(name)}")


def _kind(name: str, said: _Said, folder_files: Collection[str], input_names: Set[str]) -> OutputKind:
    if name in said.modified:
        return OutputKind.MODIFIED
    if name in said.created or name not in input_names:
        return OutputKind.CREATED
    lies_there = name in folder_files and not said.has_subsets
    return OutputKind.MODIFIED if lies_there else OutputKind.UNCHANGED


def _false_name(document: Mapping[str, Any], function: manifests.Function) -> Iterator[Problem]:
    name = document.get("name", function.name)
    if name != function.name:
        yield Problem(("name",), f"must be {function.name!r}, the function that ran, not {texts.shown(name)}")


def _false_files(
    said: _Said,
    kinds: Sequence[OutputKind],
    folder_files: Collection[str],
    function: manifests.Function,
) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, (name, kind) in enumerate(zip(said.files, kinds, strict=True)):
        message = name_problem(name) or ("is listed twice" if name in seen else None)
        if not message and kind is not OutputKind.UNCHANGED and name not in folder_files:
            close = texts.suggestion(name, folder_files)
            message = f"is no regular file in the output folder{close}"
        message = message or _unlike(function, kind)
        if message:
            yield Problem(("files", index), f"{texts.shown(name)} {message}")
        seen.add(name)


def _unlike(function: manifests.Function, kind: OutputKind) -> str | None:
    """Why the function cannot have made such a file, by what its module says of it."""
    if kind is OutputKind.CREATED and function.creates_files is False:
        return f"is new, and {function.name} states that it creates no files"
    if kind is OutputKind.MODIFIED and function.modifies_files is False:
        return f"is modified, and {function.name} states that it modifies no files"
    return None


def _false_subsets(said: _Said, input_names: Set[str]) -> Iterator[Problem]:
    listed = set(said.files)
    for key, subset in (("files_created", said.created), ("files_modified", said.modified)):
        for name, count in subset.items():
            if name not in listed:
                yield Problem((key,), f"{texts.shown(name)} is not in files")
            if count > 1:
                yield Problem((key,), f"{texts.shown(name)} is listed {count} times")
    for name in said.modified:
        if name in said.created:
            yield Problem(("files_modified",), f"{texts.shown(name)} is in files_created too")
        elif name not in input_names:
            yield Problem(("files_modified",), f"{texts.shown(name)} is no input of this job")


def _false_tags(said: _Said, function: manifests.Function) -> Iterator[Problem]:
    if said.tags and len(said.tags) != len(said.files):
        yield Problem(("tags",), f"has {len(said.tags)} entries for {len(said.files)} files")
    declared = {tag.name: tag.type for tag in function.output_tags}
    for index, tags in enumerate(said.tags):
        for name, value in tags.items():
            message = _tag_problem(name, value, declared)
            if message:
                yield Problem(("tags", index, name), message)


def _tag_problem(name: str, value: Any, declared: Mapping[str, manifests.TagType]) -> str | None:
    if unnamable := texts.refusal(name):
        return f"{unnamable} as a tag's name"
    if declared and name not in declared:
        return f"is not declared in output_tags{texts.suggestion(name, declared)}"
    return manifests.tag_refusal(declared.get(name), value)
