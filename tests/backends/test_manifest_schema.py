"""The schema of rungraph.yaml: committed as the code has it, and of one mind with the reader."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from backends import manifest_schema, manifests
from backends.manifest_documents import Node, Problems, parse
from backends.manifest_schema import FUNCTION, MODULE, OPTION


def test_the_committed_schema_is_the_codes() -> None:
    written = manifest_schema.FILE.read_text()
    assert written == manifest_schema.text(), "run python -m backends.manifest_schema --write"


def test_every_reference_leads_somewhere() -> None:
    schema = manifest_schema.document()
    for name in re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)):
        assert name in schema["$defs"]


VALUES: dict[str, dict[str, Any]] = {
    "module": {
        "name": "m",
        "title": "M",
        "tagline": "t",
        "description": "d",
        "icon": "https://h/i.png",
        "tags": ["a"],
        "image": "python:3.12",
        "python": "3.12",
        "requirements": ["numpy"],
        "functions": {"f": None},
    },
    "function": {
        "description": "d",
        "command": ["a", 1],
        "options": {"a": 1},
        "accepts": ["csv", {"types": ["txt"], "tags": {"a": 1}}, {"tags": ["b"]}],
        "creates_files": True,
        "modifies_files": False,
        "output_tags": {"a": "int"},
        "resources": {"cpus": 0.5, "memory": "2GiB", "gpus": 1},
        "workers": 2,
        "timeout": "1h30m",
        "retries": 3,
        "retry": {"LOST": 2, "OUT_OF_MEMORY": {"times": 1, "memory": 2}, "backoff": {"first": "5s"}},
        "network": True,
        "env": {"A": 1},
        "secrets": ["KEY"],
    },
    "option": {"type": "int", "default": 1, "min": 0, "max": 2, "doc": "d", "required": False},
}


def _fits(value: Any, schema: dict[str, Any], whole: dict[str, Any]) -> bool:
    """Whether a value is what a schema says, by the few words of JSON Schema that ours has."""
    if "$ref" in schema:
        return _fits(value, whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    if "oneOf" in schema:
        return sum(_fits(value, each, whole) for each in schema["oneOf"]) == 1
    if "enum" in schema:
        return value in schema["enum"]
    kinds = schema.get("type", [])
    if kinds and not any(_is(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, list):
        return len(value) >= schema.get("minItems", 0) and all(
            _fits(item, schema["items"], whole) for item in value
        )
    if isinstance(value, dict):
        rest = schema.get("additionalProperties", True)
        named = schema.get("properties", {})
        return set(schema.get("required", ())) <= value.keys() and all(
            (key in named or bool(rest)) and _fits(item, named.get(key, rest), whole)
            for key, item in value.items()
        )
    return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value)) if value else True


def _is(value: Any, kind: str) -> bool:
    types: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "number": (int, float),
        "integer": int,
        "boolean": bool,
        "null": type(None),
    }
    return isinstance(value, types[kind]) and (kind == "boolean" or not isinstance(value, bool))


@pytest.mark.parametrize("example", ["allreduce", "anywhere", "digits"])
def test_the_examples_fit(example: str) -> None:
    def plain(node: Node) -> Any:
        match node.value:
            case dict():
                return {key: plain(item) for key, item in node.value.items()}
            case list():
                return [plain(item) for item in node.value]
        return node.value

    content = (Path(__file__).parents[2] / "examples" / example / "rungraph.yaml").read_bytes()
    root = parse(content, Problems("rungraph.yaml"))
    assert root is not None
    schema = manifest_schema.document()
    assert _fits(plain(root), schema, schema)


def _written(part: str, values: dict[str, Any]) -> dict[str, Any]:
    """A module in which a part has these values."""
    if part == "module":
        return {"image": "x", **values}
    function = values if part == "function" else {"command": ["a"], "options": {"o": values}}
    return {"name": "m", "functions": {"f": {"command": ["a"], **function}}}


@pytest.mark.parametrize("part", VALUES)
def test_reader_and_schema_take_every_key_and_no_other(part: str, tmp_path: Path) -> None:
    keys = {"module": MODULE, "function": FUNCTION, "option": OPTION}[part]
    assert VALUES[part].keys() >= keys.keys() - {"dockerfile", "values"}
    schema = manifest_schema.document()
    for values, good in ((VALUES[part], True), ({**VALUES[part], "surplus": 1}, False)):
        written = _written(part, values)
        (tmp_path / "rungraph.yaml").write_text(json.dumps(written))
        assert _fits(written, schema, schema) is good
        if good:
            manifests.read(tmp_path)
            continue
        with pytest.raises(manifests.ManifestInvalid, match="no key 'surplus'"):
            manifests.read(tmp_path)
