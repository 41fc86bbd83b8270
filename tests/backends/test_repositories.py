"""Repositories: the commit that was meant, nothing of this machine's settings, and an end to everything."""

import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import repositories, sources
from backends.fetching import obtained
from backends.repositories import Checkout
from backends.sources import SourceInvalid
from db.module_sources import Source, SourceKind

WHO = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"} | {
    f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}


def git(folder: Path, *arguments: str, given: str = "") -> str:
    """git in a folder, as its author."""
    environment = {"PATH": os.environ["PATH"], **WHO}
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=environment,
        input=given,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def commit(folder: Path, **files: str) -> str:
    """A commit of these files; its hash."""
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "change")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three commits: the first tagged, the second its main branch, the third on the branch `next`."""
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, rungraph="1", part__a="1")
    git(folder, "tag", "--annotate", "v1", "--message", "first")
    commit(folder, rungraph="2")
    git(folder, "checkout", "--quiet", "-b", "next")
    commit(folder, rungraph="3")
    git(folder, "checkout", "--quiet", "main")
    return folder


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def _source(repository: Path, **values: object) -> Source:
    return Source(SourceKind.GIT, repository.as_uri(), **values)  # type: ignore[arg-type]


def _check_out(source: Source, into: Path, log: list[str] | None = None, **values: object) -> Checkout:
    async def keep(line: str) -> None:
        (log if log is not None else []).append(line)

    return asyncio.run(repositories.check_out(source, into, keep, **values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ref", "content"), [(None, "2"), ("v1", "1"), ("next", "3"), ("refs/heads/next", "3")]
)
def test_a_branch_or_tag_is_resolved_to_its_commit(
    repository: Path, into: Path, ref: str | None, content: str
) -> None:
    found = _check_out(_source(repository, ref=ref), into)
    assert found.commit == git(repository, "rev-parse", f"{ref or 'HEAD'}^{{commit}}")
    assert (found.folder / "rungraph").read_text() == content


def test_a_commit_that_no_branch_ends_in_is_found_by_its_hash(repository: Path, into: Path) -> None:
    meant = git(repository, "rev-parse", "v1^{commit}")
    assert _check_out(_source(repository, ref=meant), into).commit == meant


def test_a_short_hash_is_found(repository: Path, into: Path) -> None:
    meant = git(repository, "rev-parse", "v1^{commit}")
    assert _check_out(_source(repository, ref=meant[:9]), into).commit == meant


def test_only_the_commit_itself_is_fetched(repository: Path, into: Path) -> None:
    _check_out(_source(repository), into)
    assert git(into, "rev-list", "--all", "--count") == "0"
    assert git(into, "rev-list", "--count", "FETCH_HEAD") == "1"


def test_a_folder_alone_is_written_out(repository: Path, into: Path) -> None:
    found = _check_out(_source(repository, folder="part"), into)
    assert [path.name for path in found.folder.iterdir()] == ["a"]
    assert not (into / "rungraph").exists()


async def test_one_commit_is_one_digest_whoever_asks_how(repository: Path, tmp_path: Path) -> None:
    async def ignore(_line: str) -> None:
        pass

    digests = set()
    for ref in ("v1", git(repository, "rev-parse", "v1^{commit}")):
        async with obtained(_source(repository, ref=ref), tmp_path / "store", ignore) as found:
            digests.add((await sources.fetch(str(found.folder), tmp_path / "store")).digest)
    assert len(digests) == 1
    assert {path.name for path in (tmp_path / "store").iterdir()} == digests


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ref": "nowhere"}, "at nowhere cannot be fetched: couldn't find remote ref nowhere"),
        ({"ref": "0123456789"}, "cannot be fetched"),
        ({"folder": "missing"}, "has no folder 'missing'"),
        ({"folder": "rungraph"}, "has no folder 'rungraph'"),
    ],
)
def test_what_is_not_there_is_said_in_words(
    repository: Path, into: Path, values: dict[str, str], words: str
) -> None:
    with pytest.raises(SourceInvalid, match=words):
        _check_out(_source(repository, **values), into)


def test_a_repository_that_is_not_there_is_said_in_words(tmp_path: Path, into: Path) -> None:
    with pytest.raises(SourceInvalid, match=r"nothing cannot be fetched: .*does not appear to be"):
        _check_out(_source(tmp_path / "nothing"), into)


def test_no_hook_template_or_filter_of_this_machine_runs(
    repository: Path, into: Path, tmp_path: Path
) -> None:
    home, ran = tmp_path / "home", tmp_path / "ran"
    (home / "hooks").mkdir(parents=True)
    (home / "hooks" / "post-checkout").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (home / "hooks" / "post-checkout").chmod(0o755)
    (home / "attributes").write_text("* filter=evil\n")
    lines = (
        f"[core]\nhooksPath = {home}/hooks\nattributesFile = {home}/attributes\nfsmonitor = touch {ran}",
        f'[init]\ntemplateDir = {home}\n[filter "evil"]\nsmudge = touch {ran}; cat',
        f'[credential]\nhelper = "!touch {ran}"',
    )
    (home / ".gitconfig").write_text("\n".join(lines))
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_DIR": "/nowhere", "GIT_SSH": "evil"}
    _check_out(_source(repository), into, environment=environment)
    assert not ran.exists()


@contextlib.contextmanager
def _silent_server() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_what_takes_too_long_is_given_up_and_killed(into: Path) -> None:
    with _silent_server() as port:
        source = Source(SourceKind.GIT, f"https://127.0.0.1:{port}/never.git")
        with pytest.raises(SourceInvalid, match=r"was not fetched within 0\.3 s"):
            _check_out(source, into, seconds=0.3)
    assert not _running_in(into)


def _running_in(folder: Path) -> list[int]:
    """Processes whose working folder it is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == folder:
                found.append(int(process.name))
    return found


def test_what_is_too_large_is_stopped(repository: Path, into: Path) -> None:
    with pytest.raises(SourceInvalid, match="is larger than 0 MiB"):
        _check_out(_source(repository), into, most_bytes=10)


def test_a_tree_too_large_is_refused_before_it_is_written(
    repository: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "MAX_FILES", 1)
    with pytest.raises(SourceInvalid, match="more than 1 files"):
        _check_out(_source(repository), into)
    assert [path.name for path in into.iterdir()] == [".git"]


def _bomb(folder: Path) -> None:
    """A repository of a few hundred bytes that would be a million empty files."""
    git(folder, "init", "--quiet", "--initial-branch=main")
    kind, name = "100644 blob", git(folder, "hash-object", "-w", "--stdin")
    for _ in range(6):
        entries = "".join(f"{kind} {name}\t{at}\n" for at in range(10))
        kind, name = "040000 tree", git(folder, "mktree", given=entries)
    git(folder, "update-ref", "refs/heads/main", git(folder, "commit-tree", name, "-m", "bomb"))


@pytest.mark.slow
def test_a_tree_that_names_itself_over_and_over_is_refused_soon(into: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"
    bomb.mkdir()
    _bomb(bomb)
    with pytest.raises(SourceInvalid, match="more than 10000 files"):
        _check_out(_source(bomb), into)


def test_empty_files_weigh_something_too(into: Path, tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    for folder in (inner, outer):
        folder.mkdir()
        git(folder, "init", "--quiet")
    commit(inner, **{f"f{at}": "" for at in range(400)})
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "inner")
    commit(outer, rungraph="o")
    with pytest.raises(SourceInvalid, match="is larger than 1 MiB"):
        _check_out(_source(outer, submodules=True), into, most_bytes=1 << 20)


@pytest.mark.parametrize("wanted", [True, False])
def test_submodules_come_only_when_asked_for(
    repository: Path, into: Path, tmp_path: Path, wanted: bool
) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "--quiet")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(repository), "inner")
    commit(outer, rungraph="o")
    found = _check_out(_source(outer, submodules=wanted), into)
    assert (found.folder / "inner" / "rungraph").exists() is wanted


def test_pointers_of_git_lfs_are_told(repository: Path, into: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "--quiet")
    commit(outer, weights="version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", rungraph="")
    (note,) = _check_out(_source(outer), into).notes
    assert "1 files" in note and note.endswith(": weights")


def test_credentials_are_never_shown() -> None:
    assert (
        repositories.redacted("fatal: https://me:pw@host/x ssh://git@h/y https://a:p@w@h/z/@1")
        == "fatal: https://host/x ssh://h/y https://h/z/@1"
    )
