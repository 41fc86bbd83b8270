"""The job contract: the worked example of MLsploit's modules, and every way to lie about outputs."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import contracts, manifests
from db.contracts import JobFile, OutputFile, OutputKind
from db.manifests import Accept, Function, Option, OptionType, OutputTag, TagType

MASK = Function(
    "mask_word",
    options=(Option("word", OptionType.STR), Option("guide", OptionType.FILE)),
    accepts=(Accept(("txt",)), Accept(("md", "tar.gz"), ("lang",))),
    output_tags=(OutputTag("hits", TagType.INT),),
)
LOOSE = Function("loose")
INPUTS = frozenset({"a.txt", "b.md"})
FOLDER = {"a.txt": 3, "report.txt": 9, "output.json": 99}


def _read(document: Any, function: Function = MASK) -> contracts.Outputs:
    return contracts.read_output(json.dumps(document).encode(), FOLDER, INPUTS, function)


def _messages(document: Any, function: Function = MASK) -> dict[tuple[str | int, ...], str]:
    outputs = _read(document, function)
    assert outputs.files == ()
    return {problem.path: problem.message for problem in outputs.problems}


def test_the_input_document_says_what_mlsploits_library_reads_and_who_runs() -> None:
    files = [JobFile("a.txt"), JobFile("b.md", {"lang": "en"})]
    arguments = {"word": "cat", "style": "blank"}
    document = contracts.input_document("mask_word", arguments, files, run_id="r", job_id="j", attempt=2)
    assert json.loads(document) == {
        "name": "mask_word",
        "num_files": 2,
        "files": ["a.txt", "b.md"],
        "options": {"word": "cat", "style": "blank"},
        "tags": [{}, {"lang": "en"}],
        "run_id": "r",
        "job_id": "j",
        "attempt": 2,
        "datasets": [],
        "sources": [],
    }


def test_the_input_document_says_which_file_is_in_which_part() -> None:
    placed = [("cats", 2, "train", "a.csv"), ("cats", 2, "train", "b.csv"), ("cats", 2, "test", "a.csv")]
    document = contracts.input_document(
        "f", {}, [JobFile("a.csv"), JobFile("b.csv")], run_id="r", job_id="j", attempt=1, datasets=placed
    )
    assert json.loads(document)["datasets"] == [
        {"name": "cats", "version": 2, "parts": {"train": ["a.csv", "b.csv"], "test": ["a.csv"]}}
    ]


def test_the_worked_example_creates_one_file_and_modifies_another() -> None:
    outputs = _read(
        {
            "name": "mask_word",
            "files": ["a.txt", "report.txt"],
            "files_created": ["report.txt"],
            "files_modified": ["a.txt"],
            "tags": [{"hits": 3}, {}],
        }
    )
    assert outputs.files == (
        OutputFile("a.txt", OutputKind.MODIFIED, {"hits": 3}),
        OutputFile("report.txt", OutputKind.CREATED),
    )


def test_an_input_in_neither_subset_is_handed_on_with_its_new_tags() -> None:
    outputs = _read({"files": ["b.md"], "files_extra": [], "tags": [{"hits": 1}]})
    assert outputs.files == (OutputFile("b.md", OutputKind.UNCHANGED, {"hits": 1}),)


def test_files_extra_is_files_created() -> None:
    outputs = _read({"files": ["report.txt"], "files_extra": ["report.txt"]})
    assert outputs.files == (OutputFile("report.txt", OutputKind.CREATED),)


def test_without_subsets_the_folder_decides() -> None:
    kinds = [file.kind for file in _read({"files": ["a.txt", "report.txt", "b.md"]}).files]
    assert kinds == [OutputKind.MODIFIED, OutputKind.CREATED, OutputKind.UNCHANGED]


def test_without_a_document_every_file_was_created() -> None:
    outputs = contracts.read_output(None, FOLDER, INPUTS, MASK)
    assert [(file.name, file.kind) for file in outputs.files] == [
        ("a.txt", OutputKind.CREATED),
        ("report.txt", OutputKind.CREATED),
    ]


def test_every_lie_is_told_at_once() -> None:
    assert _messages(
        {
            "name": "other",
            "files": ["a.txt", "reprot.txt", "../x", "a.txt"],
            "files_created": ["report.txt", "a.txt"],
            "files_modified": ["a.txt"],
            "tags": [{"hits": "3", "his": 1}, {}, {}],
        }
    ) == {
        ("name",): "must be 'mask_word', the function that ran, not 'other'",
        ("files", 1): "'reprot.txt' is no regular file in the output folder; did you mean 'report.txt'?",
        ("files", 2): "'../x' must be a plain file name, without a folder",
        ("files", 3): "'a.txt' is listed twice",
        ("files_created",): "'report.txt' is not in files",
        ("files_modified",): "'a.txt' is in files_created too",
        ("tags",): "has 3 entries for 4 files",
        ("tags", 0, "hits"): "must be a whole number, not '3'",
        ("tags", 0, "his"): "is not declared in output_tags; did you mean 'hits'?",
    }


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ([], ()),
        ({}, ("files",)),
        ({"files": "a.txt"}, ("files",)),
        ({"files": [1]}, ("files", 0)),
        ({"files": ["output.json"]}, ("files", 0)),
        ({"files": ["a.txt"], "files_created": {}}, ("files_created",)),
        ({"files": ["a.txt"], "files_created": ["a.txt"], "files_extra": []}, ("files_extra",)),
        ({"files": ["report.txt"], "files_modified": ["report.txt"]}, ("files_modified",)),
        ({"files": ["a.txt"], "tags": {}}, ("tags",)),
        ({"files": ["a.txt"], "tags": [None]}, ("tags", 0)),
        ({"files": ["a.txt"], "tags": [{"x": [1]}]}, ("tags", 0, "x")),
        ({"files": ["a.txt"], "tags": [{"x": float("nan")}]}, ("tags", 0, "x")),
        ({"files": ["a.txt"], "tags": [{"x": "\ud800"}]}, ("tags", 0, "x")),
    ],
)
def test_each_lie_is_told_where_it_stands(document: Any, path: tuple[str | int, ...]) -> None:
    assert list(_messages(document, LOOSE)) == [path]


@pytest.mark.parametrize("document", [b"{", b"\xff\xfe", b"[" * 100_000, b" " * (5 << 20)])
def test_what_is_no_document_is_one_problem(document: bytes) -> None:
    assert len(contracts.read_output(document, FOLDER, INPUTS, MASK).problems) == 1


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.sampled_from(["a.txt", "b.md"]),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["files", "files_created", "files_modified", "tags", "name"]), inner
            )
        ),
    )
)
def test_reading_outputs_never_raises(document: Any) -> None:
    outputs = _read(document, LOOSE)
    assert bool(outputs.problems) or {file.name for file in outputs.files} <= FOLDER.keys() | INPUTS


def test_a_hundred_thousand_lies_cost_little() -> None:
    names = [f"file_{number}" for number in range(100_000)]
    outputs = _read({"files": names, "files_created": names, "files_modified": names})
    assert len(outputs.problems) == manifests.MOST_PROBLEMS


def test_inputs_of_one_name_are_refused_with_both_origins() -> None:
    files = [JobFile("a.txt", origin="step split"), JobFile("a.txt", origin="step clean")]
    (problem,) = contracts.check_inputs(MASK, {}, files)
    assert problem.message == "2 input files have this name: step split and step clean"


@pytest.mark.parametrize(
    ("file", "accepted"),
    [
        (JobFile("a.TXT"), True),
        (JobFile("b.md", {"lang": "en"}), True),
        (JobFile("b.tar.gz", {"lang": ""}), True),
        (JobFile("b.md"), False),
        (JobFile("txt"), False),
        (JobFile("input.json"), False),
        (JobFile("a/b.txt"), False),
        (JobFile("x" * 300 + ".txt"), False),
    ],
)
def test_only_accepted_files_come_in(file: JobFile, accepted: bool) -> None:
    assert (contracts.check_inputs(MASK, {}, [file]) == ()) is accepted


def test_a_file_option_must_name_an_input() -> None:
    problems = contracts.check_inputs(MASK, {"guide": "a.tx"}, [JobFile("a.txt")])
    assert [(p.path, p.message) for p in problems] == [
        (("options", "guide"), "no input file is named 'a.tx'; did you mean 'a.txt'?")
    ]


@pytest.mark.parametrize(
    ("states", "document", "path"),
    [
        ({"creates_files": False}, None, ("new",)),
        ({"creates_files": False}, {"files": ["new"], "files_created": ["new"]}, ("files", 0)),
        ({"modifies_files": False}, {"files": ["old"], "files_modified": ["old"]}, ("files", 0)),
    ],
)
def test_a_function_makes_what_it_states_and_nothing_else(
    states: dict[str, Any], document: dict[str, Any] | None, path: tuple[str | int, ...]
) -> None:
    said = None if document is None else json.dumps(document).encode()
    folder = {"new": 1} if path == ("new",) or "new" in (document or {})["files"] else {"old": 1}
    for function, expected in ((Function("f", **states), [path]), (Function("f"), [])):
        outputs = contracts.read_output(said, folder, {"old"}, function)
        assert [problem.path for problem in outputs.problems] == expected
