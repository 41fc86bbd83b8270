"""What a .dockerignore keeps out of a build."""

from pathlib import Path

import pytest

from backends.dockerignore import Ignored


@pytest.mark.parametrize(
    ("patterns", "ignored", "kept"),
    [
        ("*.pyc", ["a.pyc"], ["deep/a.pyc", "a.py"]),
        ("**/*.pyc", ["a.pyc", "deep/er/a.pyc"], ["a.py"]),
        ("/data/", ["data", "data/x", "data/deep/x"], ["database", "sub/data"]),
        ("data/**", ["data/x", "data/deep/x"], ["data", "other"]),
        ("*\n!keep.txt", ["a", "b/c"], ["keep.txt"]),
        ("docs\n!docs/kept.md", ["docs/a.md"], ["docs/kept.md"]),
        ("!a\na", ["a"], ["b"]),
        ("# a comment\n\n  x?z  ", ["xyz"], ["# a comment", "xyyz", "x/z"]),
        ("[a-c]x", ["ax", "cx"], ["dx"]),
        ("a+(b).txt", ["a+(b).txt"], ["aab.txt"]),
        ("*", ["a"], ["Dockerfile"]),
        ("", [], ["a", "Dockerfile"]),
    ],
)
def test_patterns_mean_what_they_mean_to_docker(
    tmp_path: Path, patterns: str, ignored: list[str], kept: list[str]
) -> None:
    (tmp_path / ".dockerignore").write_text(patterns)
    found = Ignored.of(tmp_path, keep=["Dockerfile"])
    assert [name for name in (*ignored, *kept) if found.has(name)] == ignored


def test_without_one_all_is_sent(tmp_path: Path) -> None:
    assert not Ignored.of(tmp_path).has("anything")
