"""MLsploit's modules: `mlsploit_module.yaml`, and the older pair `input.schema` and `output.schema`.

Neither names a command: the image's own entry point reads input.json and runs what it names. What both say of
options, files and tags becomes our manifest, and is enforced as ours is. How freely values are read is in
mlsploit_values.py.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from backends import mlsploit_values as values
from backends.manifest_documents import ManifestProblem, Node, parse, read_file
from backends.manifests import ICON, ManifestInvalid
from backends.mlsploit_values import Findings, OptionWords
from db.manifests import Accept, Format, Function, Manifest, OutputTag, Scalar

FILE_NAME = "mlsploit_module.yaml"
INPUT_SCHEMA = "input.schema"
OUTPUT_SCHEMA = "output.schema"

_MODULE_KEYS = ("display_name", "tagline", "doctxt", "icon_url", "functions")
_FUNCTION_KEYS = (
    "name",
    "doctxt",
    "options",
    "creates_new_files",
    "modifies_input_files",
    "expected_filetype",
    "optional_filetypes",
    "output_tags",
)
_OPTION = OptionWords("enum_values", ("name", "type", "doctxt", "required", "enum_values", "default"), None)
_OLD_OPTION = OptionWords("values", ("name", "type", "required", "values", "default"), False)
_INPUT_KEYS = ("name", "options", "extensions", "required_input_tags", "required_tags")
_OUTPUT_KEYS = (
    "name",
    "output_tags",
    "has_modified_files",
    "has_extra_files",
    "tags",
    "files_modified",
    "files_extra",
)
_OLDER_WORDS = {
    "tags": "output_tags",
    "files_modified": "has_modified_files",
    "files_extra": "has_extra_files",
}


def read(folder: Path, name: str) -> tuple[Manifest, Sequence[ManifestProblem]]:
    """The manifest of `mlsploit_module.yaml`, and what is unusual about it. Raises ManifestInvalid.

    The format has no name for the module but its title; it will be called `name`.
    """
    found = Findings.of(FILE_NAME)
    root = _root(folder, FILE_NAME, found)
    parts = values.fields(root, _MODULE_KEYS, found, "a module") if root else {}
    manifest = Manifest(
        name=name,
        title=values.said(root, parts, "display_name", found, longest=25) if root else "",
        tagline=values.said(root, parts, "tagline", found, longest=50) if root else "",
        description=values.said(root, parts, "doctxt", found) if root else "",
        icon_url=_icon(root, parts, found) if root else None,
        dockerfile=_dockerfile(folder, found),
        functions=tuple(_functions(root, parts.get("functions"), found)) if root else (),
        format=Format.MLSPLOIT,
    )
    return manifest, _settled(found)


def read_schemas(folder: Path, name: str) -> tuple[Manifest, Sequence[ManifestProblem]]:
    """The manifest of the older pair of files, as `read` gives it."""
    taken, made = Findings.of(INPUT_SCHEMA), Findings.of(OUTPUT_SCHEMA)
    inputs = _declared(_root(folder, INPUT_SCHEMA, taken), _INPUT_KEYS, taken)
    outputs = _declared(_root(folder, OUTPUT_SCHEMA, made), _OUTPUT_KEYS, made)
    functions = []
    for function, (node, parts) in inputs.items():
        if function not in outputs:
            taken.problems.at(node, "one-sided", f"{function!r} is not in {OUTPUT_SCHEMA}")
            continue
        functions.append(_old_function(function, parts, taken, outputs[function][1], made))
    for function, (node, _) in outputs.items():
        if function not in inputs:
            made.problems.at(node, "one-sided", f"{function!r} is not in {INPUT_SCHEMA}")
    manifest = Manifest(
        name=name,
        dockerfile=_dockerfile(folder, taken),
        functions=tuple(functions),
        format=Format.MLSPLOIT_SCHEMAS,
    )
    return manifest, _settled(taken, made)


def _settled(*found: Findings) -> Sequence[ManifestProblem]:
    problems = tuple(problem for each in found for problem in each.problems.sorted())
    if problems:
        raise ManifestInvalid(problems)
    return [note for each in found for note in each.notes.sorted()]


def _root(folder: Path, name: str, found: Findings) -> Node | None:
    content = read_file(folder, name, found.problems)
    if content is not None and name != FILE_NAME:
        # Between the tokens of JSON a tab is a blank, which YAML does not allow.
        content = content.replace(b"\t", b" ")
    root = parse(content, found.problems) if content is not None else None
    if root is not None and not isinstance(root.value, dict):
        found.problems.at(root, "not-a-mapping", f"must be a mapping of keys, not {root.kind}")
        return None
    return root


def _dockerfile(folder: Path, found: Findings) -> str | None:
    if (folder / "Dockerfile").is_file():
        return "Dockerfile"
    found.notes.place(
        1, 1, "", "no-dockerfile", "the module has no Dockerfile, so no image can be made of it"
    )
    return None


def _icon(root: Node, parts: dict[str, Node], found: Findings) -> str | None:
    icon = values.said(root, parts, "icon_url", found)
    if not icon:
        return None
    if not ICON.fullmatch(icon):
        found.notes.at(parts["icon_url"], "icon", "is no http:// or https:// address; ignored")
        return None
    if not icon.lower().endswith((".jpg", ".jpeg", ".png", ".svg")):
        found.notes.at(parts["icon_url"], "icon", "does not end in .jpg, .jpeg, .png or .svg; kept")
    return icon


def _functions(root: Node, node: Node | None, found: Findings) -> Iterator[Function]:
    taken: set[str] = set()
    declared = values.entries(node, found, "functions")
    if not declared:
        found.problems.at(node or root, "no-functions", "a module needs at least one function")
    for item in declared:
        parts = values.fields(item, _FUNCTION_KEYS, found, "a function")
        name = values.function_name(item, parts, taken, found)
        if name is None:
            continue
        taken.add(name)
        yield _function(name, item, parts, found)


def _function(name: str, node: Node, parts: dict[str, Node], found: Findings) -> Function:
    for key in ("options", "creates_new_files", "modifies_input_files", "expected_filetype"):
        if key not in parts:
            found.notes.at(node, "missing-key", f"function {name!r} has no {key}")
    expected = values.types(parts.get("expected_filetype"), found)
    optional = values.types(parts.get("optional_filetypes"), found)
    # Without an expected type any file will do, whatever may come beside.
    types = tuple(dict.fromkeys((*expected, *optional))) if expected else ()
    return Function(
        name=name,
        description=values.said(node, parts, "doctxt", found),
        options=values.options(parts.get("options"), _OPTION, found),
        accepts=(Accept(types),) if types else (),
        output_tags=values.output_tags(parts.get("output_tags"), found),
        creates_files=values.truth(parts.get("creates_new_files"), found),
        modifies_files=values.truth(parts.get("modifies_input_files"), found),
    )


def _declared(
    root: Node | None, keys: Sequence[str], found: Findings
) -> dict[str, tuple[Node, dict[str, Node]]]:
    """A schema's functions by name, each with its parts."""
    if root is None:
        return {}
    parts = values.fields(root, ("functions",), found, "a schema")
    declared: dict[str, tuple[Node, dict[str, Node]]] = {}
    items = values.entries(parts.get("functions"), found, "functions")
    if not items:
        found.problems.at(root, "no-functions", "a module needs at least one function")
    for item in items:
        said = values.fields(item, keys, found, "a function")
        name = values.function_name(item, said, declared, found)
        if name is not None:
            declared[name] = (item, _in_words(said, found))
    return declared


def _in_words(parts: dict[str, Node], found: Findings) -> dict[str, Node]:
    """The words of a still older sample, in those that followed."""
    older = {**_OLDER_WORDS, "required_tags": "required_input_tags"}
    for key in older.keys() & parts.keys():
        found.notes.at_key(parts[key], "older-key", f"is an older word for {older[key]}; taken as that")
    return {**{older[key]: node for key, node in parts.items() if key in older}, **parts}


def _old_function(
    name: str, parts: dict[str, Node], taken: Findings, made: dict[str, Node], found: Findings
) -> Function:
    wanted = values.entries(parts.get("required_input_tags"), taken, "tags")
    required = tuple(dict.fromkeys(values.text(item, taken) for item in wanted))
    accepts = tuple(_extensions(parts.get("extensions"), required, taken))
    tags: tuple[OutputTag, ...] = values.output_tags(made.get("output_tags"), found)
    return Function(
        name=name,
        options=values.options(parts.get("options"), _OLD_OPTION, taken),
        accepts=accepts or ((Accept(required_tags=required),) if required else ()),
        output_tags=tags,
        creates_files=values.truth(made.get("has_extra_files"), found),
        modifies_files=values.truth(made.get("has_modified_files"), found),
    )


def _extensions(node: Node | None, required: tuple[str, ...], found: Findings) -> Iterator[Accept]:
    """A file fits one of them: its extension, what the tags beside it say, and every required tag."""
    for item in values.entries(node, found, "extensions"):
        if isinstance(item.value, str):
            found.notes.at(item, "not-a-mapping", "should be a mapping with the key extension; taken as one")
            yield Accept(values.types(item, found), required)
            continue
        parts = values.fields(item, ("extension", "tags", "ftype"), found, "an extension")
        tags: dict[str, Scalar] = {}
        said = parts.get("tags")
        if said is not None and not isinstance(said.value, dict):
            found.problems.at(said, "not-a-mapping", f"must be a mapping of tags to text, not {said.kind}")
        elif said is not None and isinstance(said.value, dict):
            tags = {name: values.text(value, found) for name, value in said.value.items()}
        if "ftype" in parts:
            found.notes.at(parts["ftype"], "older-key", "is taken as the tag ftype")
            tags["ftype"] = values.text(parts["ftype"], found)
        yield Accept(values.types(parts.get("extension"), found), required, tags)
