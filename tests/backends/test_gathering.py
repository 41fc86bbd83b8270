"""What a job leaves in its output folder: kept, or refused with what is wrong, and nothing in between."""

import json
from pathlib import Path
from typing import Any

import pytest

from backends import gathering
from backends.blobs import Blobs
from backends.gathering import Gathered
from db.claims import Input
from db.contracts import OutputKind
from db.manifests import Function


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "output").mkdir()
    return tmp_path / "output"


async def gather(folder: Path, blobs: Blobs, *given: Input) -> Gathered:
    return await gathering.gather(folder, blobs, Function("f"), given)


def say(folder: Path, **document: Any) -> None:
    (folder / "output.json").write_text(json.dumps(document))


async def test_without_a_document_every_regular_file_is_kept(folder: Path, blobs: Blobs) -> None:
    (folder / "b").write_text("two")
    (folder / "a").write_text("one")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("/etc/passwd")
    found = await gather(folder, blobs)
    assert [(made.output.name, made.size_bytes, made.output.kind) for made in found.made] == [
        ("a", 3, OutputKind.CREATED),
        ("b", 3, OutputKind.CREATED),
    ]
    assert blobs.path(found.made[1].sha256).read_text() == "two"


async def test_with_a_document_only_what_it_lists_is_kept(folder: Path, blobs: Blobs) -> None:
    (folder / "a").write_text("one")
    (folder / "scratch").write_text("no")
    say(folder, files=["a"], tags=[{"good": True}])
    found = await gather(folder, blobs)
    assert [(made.output.name, made.output.tags) for made in found.made] == [("a", {"good": True})]
    assert found.document == {"files": ["a"], "tags": [{"good": True}]}


async def test_an_input_handed_on_keeps_its_content_and_its_place_in_the_lineage(
    folder: Path, blobs: Blobs
) -> None:
    (folder / "seed").write_text("seed")
    (made,) = (await gather(folder, blobs)).made
    given = Input("seed", made.sha256, {}, b"0" * 16)
    say(folder, files=["seed"], files_created=[], files_modified=[])
    (kept,) = (await gather(folder, blobs, given)).made
    assert (kept.output.kind, kept.sha256, kept.input_id) == (OutputKind.UNCHANGED, made.sha256, b"0" * 16)


async def test_a_lie_keeps_nothing(folder: Path, blobs: Blobs) -> None:
    (folder / "a").write_text("one")
    say(folder, files=["a", "b"])
    found = await gather(folder, blobs)
    assert found.made == ()
    assert "b" in (found.refusal or "")
    assert not [path for path in (blobs.path("0" * 64).parents[1]).rglob("*") if path.is_file()]


async def test_too_many_files_are_refused(
    folder: Path, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "MOST_FILES", 3)
    for name in "abcd":
        (folder / name).touch()
    assert "more than 3 files" in ((await gather(folder, blobs)).refusal or "")


async def test_a_folder_that_is_gone_is_refused(folder: Path, blobs: Blobs) -> None:
    folder.rmdir()
    assert "cannot be read" in ((await gather(folder, blobs)).refusal or "")


async def test_gathering_again_finds_the_same(folder: Path, blobs: Blobs) -> None:
    (folder / "a").write_text("one")
    first = await gather(folder, blobs)
    (folder / "a").write_text("one")
    assert await gather(folder, blobs) == first
