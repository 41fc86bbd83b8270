"""Reading rungraph.yaml: what a module's author writes, checked in full before anything is installed.

Written for people: short forms where one meaning is likely, unknown keys refused with the one that was
probably meant, every mistake told at once with its line. What is read becomes `db.manifests.Manifest` and is
frozen with the version. Places come from manifest_documents.py, single values from manifest_values.py,
options from manifest_options.py.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from backends import manifest_values as values
from backends import retrying
from backends.manifest_documents import ManifestProblem, Node, Problems, parse, read_file
from backends.manifest_options import read_options
from backends.manifest_schema import ACCEPT, FUNCTION, MODULE, RESOURCES
from db import secrets, texts
from db.manifests import Accept, Function, Manifest, OutputTag, Resources, TagType

FILE_NAME = "rungraph.yaml"

_MAX_REQUIREMENTS_BYTES = 1 << 20
_TAG_TYPES = tuple(kind.value for kind in TagType)
ICON = re.compile(r"https?://[^\s/]+/\S+")
_PYTHON = re.compile(r"3(\.\d+){0,2}|(==|~=|[<>]=?|!=) ?3(\.\d+){0,2}(, ?(==|~=|[<>]=?|!=) ?3(\.\d+){0,2})*")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*[ \t]*($|[\[=<>~!;@ ].*)")


class ManifestInvalid(Exception):
    """The module's manifest has mistakes: all of them in `problems`, in the order of the file."""

    def __init__(self, problems: tuple[ManifestProblem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems

    @property
    def summary(self) -> str:
        """How many mistakes, and where."""
        count = "1 mistake" if len(self.problems) == 1 else f"{len(self.problems)} mistakes"
        return f"{self.problems[0].file if self.problems else FILE_NAME} has {count}"


def read(folder: Path) -> Manifest:
    """The manifest of the module in a folder. Raises ManifestInvalid."""
    problems = Problems(FILE_NAME)
    content = read_file(folder, FILE_NAME, problems)
    if content is None and (folder / "rungraph.yml").exists():
        missing = problems.found.pop()
        words = f"{missing.message} (there is a rungraph.yml: rename it)"
        problems.found.append(dataclasses.replace(missing, message=words))
    root = parse(content, problems) if content is not None else None
    manifest = _module(folder, root, problems) if root else None
    if manifest is None or problems.found:
        raise ManifestInvalid(problems.sorted())
    return manifest


def _module(folder: Path, root: Node, problems: Problems) -> Manifest | None:
    parts = values.fields(root, MODULE, problems, "a module")
    if not isinstance(root.value, dict):
        return None
    if "image" in parts and "dockerfile" in parts:
        problems.at_key(parts["dockerfile"], "two-images", "a module has an image or a dockerfile, not both")
    contained = "image" in parts or "dockerfile" in parts
    dockerfile = values.file_in(folder, parts.get("dockerfile"), problems)
    return Manifest(
        name=_module_name(root, parts.get("name"), problems),
        description=values.text(parts.get("description"), problems) or "",
        tags=values.words(parts.get("tags"), problems, "tags"),
        image=_image(parts.get("image"), problems),
        dockerfile=dockerfile.relative_to(folder).as_posix() if dockerfile else None,
        python=_python(parts.get("python"), problems),
        requirements=tuple(_requirements(folder, parts.get("requirements"), problems)),
        functions=tuple(_functions(root, parts.get("functions"), contained, problems)),
        title=values.text(parts.get("title"), problems, longest=100) or "",
        tagline=values.text(parts.get("tagline"), problems, longest=200) or "",
        icon_url=_icon(parts.get("icon"), problems),
    )


def _module_name(root: Node, node: Node | None, problems: Problems) -> str:
    if node is None:
        problems.at(root, "no-name", "a module needs a name")
        return ""
    name = values.text(node, problems) or ""
    if isinstance(node.value, str) and not values.NAME.fullmatch(name):
        problems.at(node, "name", _name_rule(name))
    return name


def _name_rule(name: str) -> str:
    rule = "must begin with a lower-case letter, then letters, digits, _ and -, at most 63"
    return f"{texts.shown(name)} {rule}"


def _image(node: Node | None, problems: Problems) -> str | None:
    image = values.text(node, problems, longest=1_000)
    if node and image is not None and not re.fullmatch(r"[a-zA-Z0-9][\w./:@-]*", image, re.ASCII):
        problems.at(node, "image", f"{image!r} is no reference of an image")
    return image


def _icon(node: Node | None, problems: Problems) -> str | None:
    icon = values.text(node, problems, longest=1_000)
    if node and icon is not None and not ICON.fullmatch(icon):
        problems.at(node, "icon", "must be the https:// or http:// address of a picture")
    return icon


def _python(node: Node | None, problems: Problems) -> str | None:
    """A version or a range, taken as it is written: as a number, 3.10 would be 3.1."""
    if node is None:
        return None
    if not _PYTHON.fullmatch(node.text.strip()):
        problems.at(
            node, "python", f"must be a version such as 3.12 or a range such as >=3.11, not {node.kind}"
        )
    return node.text.strip()


def _requirements(folder: Path, node: Node | None, problems: Problems) -> Iterator[str]:
    """What pip would be asked for: a list here, or the lines of a file."""
    if node is not None and isinstance(node.value, str):
        yield from _requirements_file(folder, node, problems)
        return
    for item in values.items(node, problems, "requirements, or the name of a file of them"):
        line = values.text(item, problems, longest=1_000)
        if line is not None:
            if message := _requirement_problem(line):
                problems.at(item, "requirement", message)
            yield line


def _requirements_file(folder: Path, node: Node, problems: Problems) -> Iterator[str]:
    path = values.file_in(folder, node, problems)
    if path is None:
        return
    with path.open("rb") as file:
        content = file.read(_MAX_REQUIREMENTS_BYTES + 1)
    if len(content) > _MAX_REQUIREMENTS_BYTES:
        problems.at(node, "too-large", f"{node.text} is larger than {_MAX_REQUIREMENTS_BYTES >> 20} MiB")
        return
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        problems.at(node, "encoding", f"{node.text} is not UTF-8 text")
        return
    for number, line in _logical_lines(lines):
        if message := _requirement_problem(line):
            place = ManifestProblem(node.text, number, 1, node.path, "requirement", message)
            problems.found.append(place)
        yield line


def _logical_lines(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Lines without comments, those continued by a backslash joined, with the number of the first."""
    start, parts = 1, list[str]()
    for number, line in enumerate([*lines, ""], 1):
        start = start if parts else number
        bare = re.sub(r"(^|\s)#.*", "", line).strip()
        parts.append(bare.removesuffix("\\").rstrip())
        if bare.endswith("\\"):
            continue
        if any(parts):
            yield start, " ".join(filter(None, parts))
        parts.clear()


def _requirement_problem(line: str) -> str | None:
    if line.startswith("-"):
        return f"{line.split()[0]!r}: options belong to the server's settings; list packages alone"
    if line.startswith((".", "/")) or "file:" in line:
        return f"{line!r} lies outside the index: an environment is shared by what it is made of"
    return None if _REQUIREMENT.fullmatch(line) else f"{texts.shown(line)} is no requirement"


def _functions(root: Node, node: Node | None, contained: bool, problems: Problems) -> Iterator[Function]:
    named = values.named(node, problems, "functions")
    if not named and (node is None or isinstance(node.value, dict)):
        problems.at(node or root, "no-functions", "a module needs at least one function")
    for name, declared in named.items():
        if not values.NAME.fullmatch(name):
            problems.at_key(declared, "name", _name_rule(name))
        yield _function(name, declared, contained, problems)


def _function(name: str, node: Node, contained: bool, problems: Problems) -> Function:
    """A function in a container may leave its command to the image."""
    empty = contained and node.value is None
    parts = {} if empty else values.fields(node, FUNCTION, problems, "a function")
    if isinstance(node.value, dict) and "command" not in parts and not contained:
        problems.at_key(node, "no-command", "a function needs a command, as there is no image to bring one")
    return Function(
        name=name,
        description=values.text(parts.get("description"), problems) or "",
        command=values.command(parts["command"], problems) if "command" in parts else (),
        options=read_options(parts.get("options"), problems),
        accepts=tuple(_accepts(parts.get("accepts"), problems)),
        output_tags=tuple(_output_tags(parts.get("output_tags"), problems)),
        resources=_resources(parts.get("resources"), problems),
        workers=values.whole(parts.get("workers"), problems, 1, 1, 10_000),
        timeout_seconds=values.seconds(parts.get("timeout"), problems),
        retries=values.whole(parts.get("retries"), problems, 0, 0, 100),
        retry=retrying.read(parts.get("retry"), problems),
        environment=values.environment(parts.get("env"), problems),
        secrets=_secrets(parts.get("secrets"), problems),
        creates_files=values.truth(parts.get("creates_files"), problems),
        modifies_files=values.truth(parts.get("modifies_files"), problems),
        network=bool(values.truth(parts.get("network"), problems)),
    )


def _secrets(node: Node | None, problems: Problems) -> tuple[str, ...]:
    """Names of the project's secrets, each of which becomes a variable."""
    names = values.words(node, problems, "names of secrets")
    for item in node.value if node is not None and isinstance(node.value, list) else ():
        if isinstance(item.value, str) and (message := secrets.name_problem(item.value)):
            problems.at(item, "secret", message)
    return names


def _accepts(node: Node | None, problems: Problems) -> Iterator[Accept]:
    """Each item a file type, or a mapping of types and the tags they need."""
    for item in values.items(node, problems, "file types"):
        if isinstance(item.value, str):
            yield Accept((file_type(item, item.value, problems),))
            continue
        parts = values.fields(item, ACCEPT, problems, "an accepted kind of file")
        types = values.words(parts.get("types"), problems, "file types")
        tags = parts.get("tags")
        exact = tags is not None and isinstance(tags.value, dict)
        yield Accept(
            tuple(file_type(item, kind, problems) for kind in types),
            () if exact else values.words(tags, problems, "tags, or a mapping of tags to what they say"),
            values.scalars(tags, problems) if exact else {},
        )


def file_type(node: Node, written: str, problems: Problems) -> str:
    """The end of a file's name, without the dot."""
    kind = written.strip().lower().lstrip("*").lstrip(".")
    if not re.fullmatch(r"[a-z0-9_+-]+(\.[a-z0-9_+-]+)*", kind):
        problems.at(node, "file-type", f"{texts.shown(written)} is no file type such as csv or tar.gz")
    return kind


def _output_tags(node: Node | None, problems: Problems) -> Iterator[OutputTag]:
    for name, kind in values.named(node, problems, "types").items():
        if kind.value in _TAG_TYPES:
            yield OutputTag(name, TagType(kind.value))
            continue
        close = texts.suggestion(kind.text, _TAG_TYPES)
        problems.at(kind, "type", f"must be one of {', '.join(_TAG_TYPES)}, not {kind.kind}{close}")


def _resources(node: Node | None, problems: Problems) -> Resources:
    parts = values.fields(node, RESOURCES, problems, "resources") if node else {}
    return Resources(
        cpus=values.amount(parts.get("cpus"), problems, most=100_000),
        memory_bytes=values.memory(parts.get("memory"), problems),
        gpus=values.whole(parts.get("gpus"), problems, 0, 0, 10_000),
    )
