"""Reading rungraph.yaml: what it becomes, and that every mistake is told with its place."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends import manifests
from backends.manifests import ManifestInvalid
from db.manifests import Accept, Function, Manifest, Option, OptionType, OutputTag, Resources, TagType
from db.policies import Backoff, Policy, Rule
from db.states import EndReason

FULL = """
name: digits
description: Learn to read digits
tags: [vision, demo]
python: 3.10
requirements:
  - numpy==2.4.6
  - scikit-learn[extra]>=1.5,<2
functions:
  split:
    command: [python, split.py, 5]
  train:
    description: Train a classifier
    command: [python, train.py]
    options:
      epochs: 10
      learning_rate: {type: float, default: 1e-1, min: 0, max: 10, doc: Step size}
      solver: [sgd, adam]
      shuffle: off
      verbose: true
      data: file
      seed: {type: int, required: false}
    accepts:
      - .NPZ
      - {types: [csv, tar.gz], tags: [split]}
    output_tags: {accuracy: float}
    resources: {cpus: 2, memory: 1.5GiB, gpus: 1}
    workers: 4
    timeout: 1h30m
    retries: 2
    retry:
      LOST: 0
      OUT_OF_MEMORY: {times: 3, memory: 1.5, most: 4GiB}
      backoff: {first: 10s, most: 1h}
    env: {OMP_NUM_THREADS: 1, MODE: fast}
"""

FIVE_MISTAKES = """\
name: Digits
functions:
  train:
    comand: [python, train.py]
    command: python train.py --fast
    options:
      epochs: {type: int, default: 0, min: 1}
      solver: sgd
      solver: adam
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def _read(folder: Path, text: str) -> Manifest:
    (folder / "rungraph.yaml").write_text(text)
    return manifests.read(folder)


def _problems(folder: Path, text: str | bytes) -> list[tuple[int, int, str, str]]:
    (folder / "rungraph.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ManifestInvalid) as refused:
        manifests.read(folder)
    return [(p.line, p.column, p.path, p.rule) for p in refused.value.problems]


def _function(rest: str) -> str:
    return f"name: m\nfunctions:\n  f:\n    command: [x]\n    {rest}\n"


def test_everything_that_can_be_said_is_read(folder: Path) -> None:
    assert _read(folder, FULL) == Manifest(
        name="digits",
        description="Learn to read digits",
        tags=("vision", "demo"),
        python="3.10",
        requirements=("numpy==2.4.6", "scikit-learn[extra]>=1.5,<2"),
        functions=(
            Function("split", command=("python", "split.py", "5")),
            Function(
                "train",
                description="Train a classifier",
                command=("python", "train.py"),
                options=(
                    Option("epochs", OptionType.INT, default=10),
                    Option("learning_rate", OptionType.FLOAT, False, 0.1, 0, 10, (), "Step size"),
                    Option("solver", OptionType.ENUM, default="sgd", values=("sgd", "adam")),
                    Option("shuffle", OptionType.STR, default="off"),
                    Option("verbose", OptionType.BOOL, default=True),
                    Option("data", OptionType.FILE, required=True),
                    Option("seed", OptionType.INT),
                ),
                accepts=(Accept(("npz",)), Accept(("csv", "tar.gz"), ("split",))),
                output_tags=(OutputTag("accuracy", TagType.FLOAT),),
                resources=Resources(2.0, 3 << 29, 1),
                workers=4,
                timeout_seconds=5400.0,
                retries=2,
                retry=Policy(
                    (Rule(EndReason.LOST, 0), Rule(EndReason.OUT_OF_MEMORY, 3, 1.5, 4 << 30)),
                    Backoff(10.0, 3600.0),
                ),
                environment={"OMP_NUM_THREADS": "1", "MODE": "fast"},
            ),
        ),
    )


def test_five_mistakes_are_five_problems_on_their_lines(folder: Path) -> None:
    assert _problems(folder, FIVE_MISTAKES) == [
        (1, 7, "name", "name"),
        (4, 5, "functions.train.comand", "unknown-key"),
        (5, 14, "functions.train.command", "command-is-text"),
        (7, 36, "functions.train.options.epochs.default", "default"),
        (9, 7, "functions.train.options.solver", "duplicate-key"),
    ]


def test_messages_say_what_to_write_instead(folder: Path) -> None:
    with pytest.raises(ManifestInvalid) as refused:
        _read(folder, FIVE_MISTAKES)
    text = str(refused.value)
    assert "did you mean 'command'?" in text
    assert "[python, train.py, --fast]" in text
    assert "stands in line 8 already" in text
    assert text.startswith("rungraph.yaml:1:7: name: ")


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "empty"),
        (b"# nothing\n", "empty"),
        (b"- a\n", "not-a-mapping"),
        (b"just text", "not-a-mapping"),
        (b"\x89PNG\r\n\x1a\n\0", "encoding"),
        (b"name: \x01", "encoding"),
        (b"a: [1", "syntax"),
        (b"a: 1\n---\nb: 2\n", "syntax"),
        (b"a: *unknown", "syntax"),
        (b"#" * (129 << 10), "too-large"),
        (b"[" * 5_000, "too-much"),
        (b"a: " + b"[" * 50 + b"]" * 50, "too-much"),
        (b"a: &a [*a]", "too-much"),
        (
            b"\n".join(
                b"k%d: &k%d [%s]" % (n, n, b",".join([b"*k%d" % (n - 1)] * 9) if n else b"0")
                for n in range(9)
            ),
            "too-much",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_manifest_at_all_is_one_typed_problem(folder: Path, content: bytes, rule: str) -> None:
    assert [problem[3] for problem in _problems(folder, content)] == [rule]


def test_a_missing_file_and_a_pipe_are_told_apart_from_mistakes(folder: Path) -> None:
    for make in (lambda path: None, os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/etc/passwd")):
        make(folder / "rungraph.yaml")
        with pytest.raises(ManifestInvalid) as refused:
            manifests.read(folder)
        assert [problem.rule for problem in refused.value.problems] == ["missing-file"]
        made = folder / "rungraph.yaml"
        if made.is_dir():
            made.rmdir()
        else:
            made.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("rest", "path", "rule"),
    [
        ("options: {1x: 3}", "options.1x", "name"),
        ("options: {class: 3}", "options.class", "name"),
        ("options: {a: }", "options.a", "no-type"),
        ("options: {a: {doc: x}}", "options.a", "no-type"),
        ("options: {a: enum}", "options.a", "no-values"),
        ("options: {a: {type: enum}}", "options.a", "no-values"),
        ("options: {a: {type: integer}}", "options.a.type", "type"),
        ("options: {a: {type: int, default: 1.5}}", "options.a.default", "default"),
        ("options: {a: {type: str, default: 5}}", "options.a.default", "default"),
        ("options: {a: {values: [x, y], default: z}}", "options.a.default", "default"),
        ("options: {a: {type: float, default: .nan}}", "options.a.default", "number"),
        ("options: {a: {type: int, min: 3, max: 1}}", "options.a.max", "bounds"),
        ("options: {a: {type: str, min: 3}}", "options.a.min", "bounds"),
        ("options: {a: {type: int, values: [a]}}", "options.a.values", "values"),
        ("options: {a: {type: int, default: 1, required: true}}", "options.a.required", "required-default"),
        ("options: {a: [1, 2]}", "options.a[0]", "not-text"),
        ("options: [a]", "options", "not-a-mapping"),
        ("accepts: npz", "accepts", "not-a-list"),
        ("accepts: [a b]", "accepts[0]", "file-type"),
        ("accepts: [{type: npz}]", "accepts[0].type", "unknown-key"),
        ("output_tags: {a: enum}", "output_tags.a", "type"),
        ("resources: {memory: lots}", "resources.memory", "not-an-amount"),
        ("resources: {cpus: 0}", "resources.cpus", "out-of-bounds"),
        ("timeout: soon", "timeout", "not-a-duration"),
        ("timeout: 0.0000005s", "timeout", "not-a-duration"),
        ("timeout: 5e-7", "timeout", "not-a-duration"),
        ("timeout: true", "timeout", "not-a-duration"),
        ("timeout: 0.0h", "timeout", "out-of-bounds"),
        ("timeout: 367d", "timeout", "out-of-bounds"),
        ("timeout: 0", "timeout", "out-of-bounds"),
        ("workers: 0", "workers", "out-of-bounds"),
        ("workers: true", "workers", "not-a-number"),
        ("env: {RUNGRAPH_URL: x}", "env.RUNGRAPH_URL", "reserved"),
        ("env: {A-B: x}", "env.A-B", "name"),
        ("env: {A: [x]}", "env.A", "not-text"),
        ("description: !!python/name:os.system x", "description", "tag"),
        ("<<: {workers: 2}", "", "key"),
        ('description: "\\0"', "description", "character"),
    ],
)
def test_each_rule_of_a_function_is_kept(folder: Path, rest: str, path: str, rule: str) -> None:
    problems = {
        (problem[2].removeprefix("functions.f").lstrip("."), problem[3])
        for problem in _problems(folder, _function(rest))
    }
    assert (path, rule) in problems


@pytest.mark.parametrize(
    ("top", "path", "rule"),
    [
        ("image: a\ndockerfile: Dockerfile", "dockerfile", "two-images"),
        ("dockerfile: ../Dockerfile", "dockerfile", "path"),
        ("dockerfile: Nowhere", "dockerfile", "missing-file"),
        ("dockerfile: leaving", "dockerfile", "missing-file"),
        ("image: a b", "image", "image"),
        ("python: two", "python", "python"),
        ("requirements: [numpy, --index-url=x]", "requirements[1]", "requirement"),
        ('requirements: ["numpy\\n --index-url=x"]', "requirements[0]", "requirement"),
        ("requirements: [./local]", "requirements[0]", "requirement"),
        ("requirements: nowhere.txt", "requirements", "missing-file"),
        ("version: 2", "version", "unknown-key"),
        ("description: 5", "description", "not-text"),
        ("tags: [a, a]", "tags[1]", "twice"),
    ],
)
def test_each_rule_of_a_module_is_kept(folder: Path, top: str, path: str, rule: str) -> None:
    (folder / "Dockerfile").write_text("FROM scratch")
    (folder / "leaving").symlink_to("/etc/passwd")
    problems = _problems(folder, f"{top}\n{_function('')}")
    assert [(problem[2], problem[3]) for problem in problems] == [(path, rule)]


def test_requirements_may_stand_in_a_file_and_are_told_by_its_lines(folder: Path) -> None:
    (folder / "r.txt").write_text(
        "# all\nnumpy==1 \\\n  --hash=sha256:ab  # why\n\nscipy ; python_version<'4'\n"
    )
    requirements = _read(folder, "requirements: r.txt\n" + _function("")).requirements
    assert requirements == ("numpy==1 --hash=sha256:ab", "scipy ; python_version<'4'")
    (folder / "r.txt").write_text("numpy\n\n-r other.txt\n")
    with pytest.raises(ManifestInvalid) as refused:
        _read(folder, "requirements: r.txt\n" + _function(""))
    assert [(p.file, p.line) for p in refused.value.problems] == [("r.txt", 3)]


def test_a_container_may_bring_its_own_command(folder: Path) -> None:
    assert _read(folder, "name: m\nimage: busybox\nfunctions: {f: }\n").functions == (Function("f"),)
    assert _problems(folder, "name: m\nfunctions: {f: {}}\n") == [(2, 13, "functions.f", "no-command")]


def test_an_alias_may_stand_for_a_whole_value(folder: Path) -> None:
    text = "name: m\nfunctions:\n  a: {command: &c [x, y]}\n  b: {command: *c}\n"
    assert [function.command for function in _read(folder, text).functions] == [("x", "y")] * 2


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90", 90), ("0.5", 0.5), ("10m", 600), ("2d", 172_800), ("1.5h", 5400), ("1h1.5s", 3601.5)],
)
def test_durations_are_written_as_people_write_them(folder: Path, written: str, seconds: float) -> None:
    assert _read(folder, _function(f"timeout: {written}")).functions[0].timeout_seconds == seconds


@pytest.mark.parametrize(
    ("written", "size"),
    [("2GiB", 2 << 30), ("2Gi", 2 << 30), ("2GB", 2 * 10**9), ("512M", 512 * 10**6), ("1048576", 1 << 20)],
)
def test_memory_is_written_as_people_write_it(folder: Path, written: str, size: int) -> None:
    resources = _read(folder, _function(f"resources: {{memory: {written}}}")).functions[0].resources
    assert resources.memory_bytes == size


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_manifest_is_read_or_refused_never_worse(folder: Path, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(FULL)))
    end = data.draw(st.integers(start, min(len(FULL), start + 20)))
    patch = data.draw(st.text("{}[]:,-&*!|>'\"\n \t#abc019.", max_size=6))
    (folder / "rungraph.yaml").write_text(FULL[:start] + patch + FULL[end:])
    try:
        manifests.read(folder)
    except ManifestInvalid as refused:
        assert refused.problems
        assert all(problem.line >= 1 and problem.rule and problem.message for problem in refused.problems)


@pytest.mark.parametrize(
    ("retry", "path", "rule"),
    [
        ("{LOTS: 1}", "LOTS", "unknown-key"),
        ("{BAD_OUTPUT: 1}", "BAD_OUTPUT", "unknown-key"),
        ("{LOST: 101}", "LOST", "out-of-bounds"),
        ("{LOST: often}", "LOST", "not-a-number"),
        ("{LOST: {times: 1, memory: 2}}", "LOST.memory", "retry"),
        ("{OUT_OF_MEMORY: {memory: 17}}", "OUT_OF_MEMORY.memory", "retry"),
        ("{OUT_OF_MEMORY: {memory: 0.5}}", "OUT_OF_MEMORY.memory", "retry"),
        ("{backoff: {first: 10m, most: 5m}}", "backoff.most", "backoff"),
        ("{backoff: {first: soon}}", "backoff.first", "not-a-duration"),
    ],
)
def test_a_rule_of_retrying_that_cannot_be_meant_is_told_with_its_place(
    folder: Path, retry: str, path: str, rule: str
) -> None:
    text = f"name: m\nfunctions:\n  f:\n    command: [a]\n    retry: {retry}\n"
    ((line, _, where, why),) = _problems(folder, text)
    assert (line, where, why) == (5, f"functions.f.retry.{path}", rule)
