"""Sources: what is meant by one, and what git is never told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import errors, ids, module_sources
from db.module_sources import Source, SourceKind

GIT, FILE, FOLDER = SourceKind.GIT, SourceKind.FILE, SourceKind.FOLDER
FILE_ID = ids.encode("file", ids.new())


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (("/srv/text", {}), Source(FOLDER, "/srv/text")),
        (("~/text", {"folder": "./a//b/"}), Source(FOLDER, "~/text", folder="a/b")),
        ((FILE_ID, {"name": "text"}), Source(FILE, FILE_ID, name="text")),
        (("https://h.org/a/b.git", {"ref": "v1"}), Source(GIT, "https://h.org/a/b.git", "v1")),
        (("ssh://git@h:22/a", {"submodules": True}), Source(GIT, "ssh://git@h:22/a", submodules=True)),
        (("file:///srv/a.git", {"ref": "f/x-1"}), Source(GIT, "file:///srv/a.git", "f/x-1")),
        (("git@h.org:a/b.git", {}), Source(GIT, "ssh://git@h.org/a/b.git")),
        (("git+https://h/a@v1", {}), Source(GIT, "https://h/a", "v1")),
        (("git+ssh://git@h/a", {"ref": "v2"}), Source(GIT, "ssh://git@h/a", "v2")),
    ],
)
def test_a_source_is_what_it_looks_like(given: tuple[str, dict[str, str]], meant: Source) -> None:
    assert module_sources.parse(given[0], **given[1]) == meant  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("location", "values", "path", "words"),
    [
        ("  ", {}, "source", "say a folder"),
        ("/a\0", {}, "source", "cannot be stored"),
        ("/a\n", {"ref": "\n"}, "ref", "only a git repository"),
        ("ext::sh -c id", {}, "source", "no URL that git is given"),
        ("--upload-pack=id", {}, "source", "no URL that git is given"),
        ("http://h/a", {}, "source", "http:// is not taken"),
        ("git://h/a", {}, "source", "git:// is not taken"),
        ("https://me:secret@h/a", {}, "source", "no credentials"),
        ("https://token@h/a", {}, "source", "no credentials"),
        ("https://h/a?token=secret", {}, "source", "no \\? or #"),
        ("https://h", {}, "source", "no repository"),
        ("https:///a", {}, "source", "names no host"),
        ("ssh://-oProxyCommand=id/a", {}, "source", "names no host"),
        ("https://h:x/a", {}, "source", "cannot be read"),
        ("file://host/a", {}, "source", "absolute path"),
        ("https://h/a", {"ref": "--upload-pack=id"}, "ref", "no branch"),
        ("https://h/a", {"ref": "a:b"}, "ref", "no branch"),
        ("https://h/a", {"ref": "a..b"}, "ref", "no branch"),
        ("https://h/a", {"folder": "../x"}, "folder", "within the source"),
        ("https://h/a", {"folder": "/x"}, "folder", "within the source"),
        ("https://h/a", {"folder": ".git"}, "folder", "within the source"),
        ("/a", {"ref": "v1"}, "ref", "only a git repository"),
        ("/a", {"submodules": True}, "submodules", "only a git repository"),
        ("/a", {"name": "A b"}, "name", "must begin with a lower-case letter"),
    ],
)
def test_what_git_must_not_be_told_is_refused(
    location: str, values: dict[str, str], path: str, words: str
) -> None:
    with pytest.raises(errors.Invalid, match=words) as refused:
        module_sources.parse(location, **values)  # type: ignore[arg-type]
    assert path in {problem.path[0] for problem in refused.value.problems}
    assert "secret" not in str(refused.value)


@given(st.text(), st.none() | st.text(), st.none() | st.text())
def test_whatever_is_given_is_taken_or_refused(location: str, ref: str | None, folder: str | None) -> None:
    try:
        found = module_sources.parse(location, ref=ref, folder=folder)
    except errors.Invalid:
        return
    again = module_sources.parse(found.location, ref=found.ref, folder=found.folder)
    assert again == found
    assert not (found.ref or "").startswith("-") and not found.location.startswith("-")
    assert ".." not in (found.folder or "").split("/")
