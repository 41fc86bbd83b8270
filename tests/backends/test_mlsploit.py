"""MLsploit's formats: what they say is kept, what is bent is told and taken, what is lost is refused."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from backends import formats, mlsploit
from backends.manifests import ManifestInvalid
from db import contracts, module_sources
from db.contracts import JobFile
from db.manifests import Accept, Format, Function, Option, OptionType, OutputTag, TagType

EXAMPLES = Path(__file__).parents[2] / "examples" / "mlsploit"
FUNCTION: dict[str, Any] = {
    "name": "f",
    "doctxt": "does",
    "options": [],
    "creates_new_files": True,
    "modifies_input_files": False,
    "expected_filetype": "txt",
}
OPTION: dict[str, Any] = {"name": "o", "type": "int", "doctxt": "of", "required": True}
MODULE: dict[str, Any] = {
    "display_name": "Text Tools",
    "tagline": "tools",
    "doctxt": "for texts",
    "icon_url": "https://h/i.png",
}


def _described(folder: Path, location: str = "https://h/my-tools.git") -> formats.Described:
    return formats.describe(folder, module_sources.parse(location))


def _read(folder: Path, *functions: dict[str, Any], **module: Any) -> formats.Described:
    (folder / "Dockerfile").touch()
    written = {**MODULE, "functions": list(functions), **module}
    written = {key: value for key, value in written.items() if value is not None}
    (folder / mlsploit.FILE_NAME).write_text(json.dumps(written))
    return _described(folder)


def _function(folder: Path, *options: dict[str, Any], **values: Any) -> tuple[Function, list[str]]:
    written = {**FUNCTION, "options": list(options), **values}
    written = {key: value for key, value in written.items() if value is not None}
    described = _read(folder, written)
    return described.manifest.functions[0], [note.message for note in described.notes]


def _refusals(folder: Path, *functions: dict[str, Any], **module: Any) -> list[tuple[str, str]]:
    with pytest.raises(ManifestInvalid) as refused:
        _read(folder, *functions, **module)
    return [(problem.path, problem.rule) for problem in refused.value.problems]


def test_the_current_example_is_read_whole() -> None:
    described = _described(EXAMPLES / "current")
    manifest = described.manifest
    (greet,) = manifest.functions
    assert not described.notes
    assert (manifest.name, manifest.title, manifest.format) == ("hello-texts", "Hello Texts", Format.MLSPLOIT)
    assert (manifest.icon_url, manifest.dockerfile) == ("https://example.org/hello.svg", "Dockerfile")
    assert manifest.needs_container
    assert greet.options == (
        Option("whom", OptionType.STR, required=True, doc="who is greeted"),
        Option("times", OptionType.INT, default=1, doc="how many greetings"),
        Option("style", OptionType.ENUM, default="plain", values=("plain", "loud"), doc="how loud"),
    )
    assert greet.accepts == (Accept(("txt", "md")),)
    assert greet.output_tags == (OutputTag("greetings", TagType.INT),)
    assert (greet.creates_files, greet.modifies_files) == (False, True)


def test_the_older_example_is_read_whole_and_called_by_its_source() -> None:
    described = _described(EXAMPLES / "older")
    manifest = described.manifest
    (greet,) = manifest.functions
    assert not described.notes
    assert (manifest.name, manifest.format) == ("my-tools", Format.MLSPLOIT_SCHEMAS)
    assert greet.options == (
        Option("whom", OptionType.STR, required=True),
        Option("style", OptionType.ENUM, values=("plain", "loud")),
    )
    assert greet.accepts == (
        Accept(("txt",), ("ftype",), {"ftype": "letter"}),
        Accept(("md",), ("ftype",)),
    )
    assert greet.output_tags == (OutputTag("greeted", TagType.BOOL),)
    assert (greet.creates_files, greet.modifies_files) == (True, None)


@pytest.mark.parametrize(
    ("name", "tags", "fits"),
    [
        ("a.txt", {"ftype": "letter"}, True),
        ("a.txt", {"ftype": "bill"}, False),
        ("a.txt", {}, False),
        ("a.md", {"ftype": "bill"}, True),
        ("a.md", {}, False),
        ("a.csv", {"ftype": "letter"}, False),
    ],
)
def test_extensions_hold_under_their_tags(name: str, tags: dict[str, Any], fits: bool) -> None:
    (greet,) = _described(EXAMPLES / "older").manifest.functions
    problems = contracts.check_inputs(greet, {}, [JobFile(name, tags)])
    assert (not problems) is fits
    if problems:
        assert problems[0].message == "is not what greet takes: .txt tagged ftype=letter, or .md tagged ftype"


BENT: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "required as a word": ({"required": "false", "default": 1}, {"default": 1}, "taken as false"),
    "no required": ({"required": None, "default": 1}, {"default": 1}, "taken as not required"),
    "neither": ({"required": None}, {"required": True}, "taken as required"),
    "no default": ({"required": False}, {"required": False}, "without a value it is null"),
    "both": ({"default": 1}, {"required": True, "default": None}, "a required option has no default"),
    "a default as a word": ({"required": False, "default": "7"}, {"default": 7}, "taken as 7"),
    "a whole float": ({"required": False, "default": 7.0}, {"default": 7}, "taken as 7"),
    "a truth as a word": (
        {"type": "bool", "required": False, "default": "False"},
        {"default": False},
        "taken as false",
    ),
    "a number as text": (
        {"type": "str", "required": False, "default": 3.10},
        {"default": "3.1"},
        "taken as '3.1'",
    ),
    "a number as a choice": (
        {"type": "enum", "enum_values": [1, 2], "required": False, "default": 2},
        {"default": "2", "values": ("1", "2")},
        "taken as text",
    ),
    "no type beside values": (
        {"type": None, "enum_values": ["a"]},
        {"type": OptionType.ENUM, "values": ("a",)},
        "taken as enum",
    ),
    "values of no enum": ({"enum_values": ["a"]}, {"values": ()}, "only an enum has"),
    "no doctxt": ({"doctxt": None}, {"doc": ""}, "has no doctxt"),
    "another key": ({"minimum": 1}, {}, "has no key 'minimum'"),
}


@pytest.mark.parametrize(("bent", "meant", "note"), BENT.values(), ids=BENT.keys())
def test_a_bent_option_is_taken_for_what_it_means(
    tmp_path: Path, bent: dict[str, Any], meant: dict[str, Any], note: str
) -> None:
    written = {key: value for key, value in {**OPTION, **bent}.items() if value is not None}
    function, notes = _function(tmp_path, written)
    assert {key: getattr(function.options[0], key) for key in meant} == meant
    assert any(note in told for told in notes), notes


@pytest.mark.parametrize(
    ("bent", "meant", "note"),
    [
        ({"expected_filetype": None}, {"accepts": ()}, "has no expected_filetype"),
        ({"expected_filetype": "*"}, {"accepts": ()}, ""),
        ({"expected_filetype": " .TXT "}, {"accepts": (Accept(("txt",)),)}, ""),
        ({"expected_filetype": "txt, md"}, {"accepts": (Accept(("txt", "md")),)}, "taken as one"),
        ({"creates_new_files": None}, {"creates_files": None}, "has no creates_new_files"),
        ({"modifies_input_files": "yes"}, {"modifies_files": True}, "taken as true"),
        ({"options": None}, {"options": ()}, "has no options"),
        ({"doctxt": None}, {"description": ""}, "has no doctxt"),
        (
            {"output_tags": [{"name": "t", "type": "bool"}]},
            {"output_tags": (OutputTag("t", TagType.BOOL),)},
            "",
        ),
    ],
)
def test_a_bent_function_is_taken_for_what_it_means(
    tmp_path: Path, bent: dict[str, Any], meant: dict[str, Any], note: str
) -> None:
    function, notes = _function(tmp_path, **bent)
    assert {key: getattr(function, key) for key in meant} == meant
    assert any(note in told for told in notes) if note else not notes


def test_a_bent_module_is_taken_with_a_word_for_each_bend(tmp_path: Path) -> None:
    described = _read(
        tmp_path, FUNCTION, tagline="long " * 20, icon_url=None, doctxt=None, display_name=None, author="me"
    )
    told = {note.rule for note in described.notes}
    assert told == {"too-long", "missing-key", "unknown-key"}
    assert described.manifest.name == "my-tools"


BROKEN: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "unknown type": (
        {"options": [{**OPTION, "type": "integer"}]},
        [("functions[0].options[0].type", "type")],
    ),
    "no type": (
        {"options": [{"name": "o", "required": True, "doctxt": ""}]},
        [("functions[0].options[0]", "no-type")],
    ),
    "no values": ({"options": [{**OPTION, "type": "enum"}]}, [("functions[0].options[0]", "no-values")]),
    "a default that is none": (
        {"options": [{**OPTION, "required": False, "default": "x"}]},
        [("functions[0].options[0].default", "default")],
    ),
    "a default outside": (
        {"options": [{**OPTION, "type": "enum", "enum_values": ["a"], "required": False, "default": "b"}]},
        [("functions[0].options[0].default", "default")],
    ),
    "required as nothing known": (
        {"options": [{**OPTION, "required": "perhaps"}]},
        [("functions[0].options[0].required", "not-a-truth")],
    ),
    "an option twice": ({"options": [OPTION, OPTION]}, [("functions[0].options[1].name", "twice")]),
    "no identifier": ({"options": [{**OPTION, "name": "a b"}]}, [("functions[0].options[0].name", "name")]),
    "options as a mapping": ({"options": {"o": OPTION}}, [("functions[0].options", "not-a-list")]),
    "a tag's type": (
        {"output_tags": [{"name": "t", "type": "list"}]},
        [("functions[0].output_tags[0].type", "type")],
    ),
    "a name with a slash": ({"name": "a/b"}, [("functions[0].name", "name")]),
    "a type of files": ({"expected_filetype": "a/b"}, [("functions[0].expected_filetype", "file-type")]),
}


@pytest.mark.parametrize(("broken", "problems"), BROKEN.values(), ids=BROKEN.keys())
def test_what_has_lost_its_meaning_is_refused(
    tmp_path: Path, broken: dict[str, Any], problems: list[tuple[str, str]]
) -> None:
    assert _refusals(tmp_path, {**FUNCTION, **broken}) == problems


def test_two_functions_of_one_name_and_none_at_all_are_refused(tmp_path: Path) -> None:
    assert _refusals(tmp_path, FUNCTION, FUNCTION) == [("functions[1].name", "twice")]
    assert _refusals(tmp_path) == [("functions", "no-functions")]


def test_a_function_must_be_in_both_schemas(tmp_path: Path) -> None:
    one, two = ({"functions": [{"name": name}]} for name in ("a", "b"))
    (tmp_path / "input.schema").write_text(json.dumps(one))
    (tmp_path / "output.schema").write_text(json.dumps(two))
    with pytest.raises(ManifestInvalid) as refused:
        _described(tmp_path)
    found = [(problem.file, problem.rule) for problem in refused.value.problems]
    assert found == [("input.schema", "one-sided"), ("output.schema", "one-sided")]
    (tmp_path / "output.schema").unlink()
    with pytest.raises(ManifestInvalid, match=r"no output\.schema"):
        _described(tmp_path)


def test_a_still_older_sample_is_taken_with_a_word_for_each_older_one(tmp_path: Path) -> None:
    taken = {"name": "f", "extensions": [{"extension": "txt", "ftype": "x"}, "md"], "required_tags": ["a"]}
    made = {"name": "f", "tags": [{"name": "t", "type": "int"}], "files_modified": True, "files_extra": False}
    (tmp_path / "Dockerfile").touch()
    (tmp_path / "input.schema").write_text(json.dumps({"functions": [taken]}))
    (tmp_path / "output.schema").write_text(json.dumps({"functions": [made]}))
    described = _described(tmp_path)
    (function,) = described.manifest.functions
    assert function.accepts == (Accept(("txt",), ("a",), {"ftype": "x"}), Accept(("md",), ("a",)))
    assert (function.modifies_files, function.creates_files) == (True, False)
    assert function.output_tags == (OutputTag("t", TagType.INT),)
    assert sorted(note.rule for note in described.notes) == ["not-a-mapping", *["older-key"] * 5]


def test_ours_goes_before_theirs_and_nothing_is_named_whole(tmp_path: Path) -> None:
    with pytest.raises(
        ManifestInvalid, match=r"no rungraph\.yaml, nor mlsploit_module\.yaml, nor input\.schema"
    ):
        _described(tmp_path)
    (tmp_path / mlsploit.FILE_NAME).write_text("broken: [")
    text = """
        name: ours
        functions: {f: {command: [a]}}
    """
    (tmp_path / "rungraph.yaml").write_text(textwrap.dedent(text))
    described = _described(tmp_path)
    assert (described.manifest.name, described.notes[0].rule) == ("ours", "two-formats")
