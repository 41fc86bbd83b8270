"""Files: announced, sent, completed, and had again in whole or in part, under the API's permissions."""

import hashlib
from typing import Any

import pytest

from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FILE = """query ($id: ID!) { file(id: $id) { id name state sizeBytes sha256 mediaType kind tags createdAt url
  job { id } derivedFrom { id } } }"""


async def complete(server: Server, file: str, **input: Any) -> Any:
    given = {"sha256": DIGEST, "sizeBytes": len(CONTENT), **input}
    return await server.change("completeUpload", "file { state url }", id=file, **given)


async def test_a_file_is_announced_sent_and_completed(server: Server) -> None:
    payload = await server.change(
        "createUpload",
        "file { id state url sha256 } upload { url }",
        name="data.csv",
        sizeBytes=len(CONTENT),
        tags={"split": "train", "rows": 7, "clean": True},
    )
    file, url = payload["file"]["id"], payload["upload"]["url"]
    assert payload["file"] == {"id": file, "state": "UPLOADING", "url": None, "sha256": None}
    sent = await server.http.put(url, content=CONTENT, headers={"Authorization": server.bearer})
    assert (sent.status_code, sent.headers["etag"], sent.content) == (204, f'"{DIGEST}"', b"")
    assert await complete(server, file) == {"file": {"state": "READY", "url": url}, "errors": []}
    found = await server.ask(FILE, id=file)
    assert found.pop("createdAt")
    assert found == {
        **{"id": file, "name": "data.csv", "state": "READY", "sizeBytes": len(CONTENT), "sha256": DIGEST},
        **{"mediaType": "text/csv", "kind": "INPUT", "url": url, "job": None, "derivedFrom": None},
        "tags": {"split": "train", "rows": 7, "clean": True},
    }
    assert await complete(server, file, sha256=DIGEST.upper()) == {
        "file": {"state": "READY", "url": url},
        "errors": [],
    }


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"x"], ids=len)
async def test_a_content_of_another_size_is_refused_and_may_be_sent_again(
    server: Server, content: bytes
) -> None:
    file = await server.announce("a.bin", len(CONTENT))
    refused = await server.put(file, content)
    assert (refused.status_code, refused.json()["errors"][0]["extensions"]["code"]) == (422, "INVALID")
    assert (await complete(server, file))["errors"][0]["code"] == "CONFLICT"
    assert (await server.put(file, CONTENT)).status_code == 204
    assert (await complete(server, file))["errors"] == []


async def test_a_second_content_before_completion_takes_the_place_of_the_first(server: Server) -> None:
    file = await server.announce("a.bin", len(CONTENT))
    assert (await server.put(file, bytes(len(CONTENT)))).status_code == 204
    assert (await complete(server, file))["errors"][0]["path"] == ["input", "sha256"]
    assert (await server.put(file, CONTENT)).status_code == 204
    assert (await complete(server, file, sizeBytes=1))["errors"][0]["path"] == ["input", "sizeBytes"]
    assert (await complete(server, file))["errors"] == []


async def test_a_complete_file_takes_no_content(server: Server) -> None:
    file = await server.upload("a.bin", CONTENT)
    refused = await server.put(file, bytes(len(CONTENT)))
    assert (refused.status_code, refused.json()["errors"][0]["extensions"]["code"]) == (409, "CONFLICT")
    assert (await server.get(f"/files/{file}")).content == CONTENT


async def test_an_empty_file_is_a_file(server: Server) -> None:
    answer = await server.get(f"/files/{await server.upload('empty', b'')}")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")


async def test_others_get_nothing_and_are_told_nothing(server: Server) -> None:
    ready, coming = await server.upload("a.bin", CONTENT), await server.announce("b.bin", 1)
    for headers in ({}, {"Authorization": "Bearer nobody"}, {"Authorization": "Basic x"}):
        for path in (f"/files/{ready}", f"/files/{coming}", "/files/nothing"):
            for method in ("GET", "HEAD", "PUT"):
                answer = await server.http.request(method, path, headers=headers)
                assert answer.status_code == 401, (method, path)
                assert CONTENT not in answer.content


async def test_what_is_not_there_or_not_complete_is_not_found(server: Server) -> None:
    coming = await server.announce("b.bin", 1)
    for path in (f"/files/{coming}", "/files/nothing", f"/files/file_{'0' * 26}", f"/files/run_{'0' * 26}"):
        assert (await server.get(path)).status_code == 404
    assert (await server.put(f"file_{'0' * 26}", b"x")).status_code == 404
    answer = await server.http.post(f"/files/{coming}", headers={"Authorization": server.bearer})
    assert answer.status_code == 405


async def test_a_content_is_had_whole_with_what_protects_who_opens_it(server: Server) -> None:
    file = await server.upload("page.html", CONTENT)
    answer = await server.get(f"/files/{file}")
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["etag"] == f'"{DIGEST}"'
    assert answer.headers["content-disposition"] == 'attachment; filename="page.html"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox"
    assert answer.headers["accept-ranges"] == "bytes"
    head = await server.http.head(f"/files/{file}", headers={"Authorization": server.bearer})
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(CONTENT)))


RANGES = {
    "bytes=0-9": (206, CONTENT[:10], f"bytes 0-9/{len(CONTENT)}"),
    "bytes=10000-": (206, CONTENT[10000:], f"bytes 10000-{len(CONTENT) - 1}/{len(CONTENT)}"),
    "bytes=-5": (206, CONTENT[-5:], f"bytes {len(CONTENT) - 5}-{len(CONTENT) - 1}/{len(CONTENT)}"),
    "bytes=99999-": (416, b"", f"bytes */{len(CONTENT)}"),
}


@pytest.mark.parametrize("asked", RANGES)
async def test_a_part_is_had_by_its_range(server: Server, asked: str) -> None:
    status, content, told = RANGES[asked]
    answer = await server.get(f"/files/{await server.upload('a.bin', CONTENT)}", Range=asked)
    assert (answer.status_code, answer.headers["content-range"]) == (status, told)
    assert content in answer.content


async def test_who_has_it_already_is_not_sent_it_again(server: Server) -> None:
    path = f"/files/{await server.upload('a.bin', CONTENT)}"
    for known in (f'"{DIGEST}"', f'"other", W/"{DIGEST}"', "*"):
        answer = await server.get(path, **{"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", f'"{DIGEST}"')
    assert (await server.get(path, **{"If-None-Match": '"other"'})).status_code == 200


async def test_a_name_beyond_ascii_comes_back_as_it_was(server: Server) -> None:
    answer = await server.get(f"/files/{await server.upload('Größe 5%.txt', CONTENT)}")
    assert "filename*=utf-8''Gr%C3%B6%C3%9Fe%205%25.txt" in answer.headers["content-disposition"]
    quoted = await server.get(f"/files/{await server.upload('a;b.txt', CONTENT)}")
    assert "\n" not in quoted.headers["content-disposition"]


async def test_one_content_under_two_names_is_stored_once(server: Server) -> None:
    content = b"told twice"
    one, two = await server.upload("one", content), await server.upload("two", content)
    assert one != two
    path = server.around.blobs.path(hashlib.sha256(content).hexdigest())
    assert path.stat().st_nlink == 1
    assert path.read_bytes() == content


async def test_files_go_through_a_run_with_their_lineage(server: Server) -> None:
    code = """import os, json; i, o = os.environ['RUNGRAPH_INPUT'], os.environ['RUNGRAPH_OUTPUT']
open(o + '/new.txt', 'w').write('new'); open(o + '/old.txt', 'w').write(open(i + '/old.txt').read() + '!')
open(o + '/output.json', 'w').write(json.dumps({'files': ['new.txt', 'old.txt', 'same.txt'],
  'files_created': ['new.txt'],
  'files_modified': ['old.txt'], 'tags': [{'a': 1}, {}, {}]}))"""
    old, same = await server.upload("old.txt", b"old"), await server.upload("same.txt", b"same")
    run = await server.start(await server.pipeline({"step": code}), files=[old, same])
    (job,) = (await server.finish(run["id"]))["jobs"]
    assert job["state"] == "SUCCEEDED", job
    made = [await server.ask(FILE, id=file["id"]) for file in job["outputs"]]
    assert [(f["name"], f["kind"], f["derivedFrom"] and f["derivedFrom"]["id"]) for f in made] == [
        ("new.txt", "OUTPUT", None),
        ("old.txt", "OUTPUT", old),
        ("same.txt", "INPUT", None),
    ]
    assert (await server.get(made[1]["url"])).content == b"old!"
    assert (made[0]["tags"], made[0]["job"]["id"], made[2]["id"]) == ({"a": 1}, job["id"], same)


async def test_files_are_listed_by_run_kind_and_tags(server: Server) -> None:
    code = """import json, os
out = os.environ['RUNGRAPH_OUTPUT']
for name in ('a', 'b'): open(f'{out}/{name}', 'w')
tags = [{'n': 1, 'w': 'x'}, {'n': 12, 'w': 'y'}]
json.dump({'files': ['a', 'b'], 'files_created': ['a', 'b'], 'tags': tags}, open(f'{out}/output.json', 'w'))"""
    file = await server.upload("given.txt")
    run = (await server.play(code, files=[file]))["id"]
    query = "query ($filter: FileFilter) { files(first: 10, filter: $filter) { nodes { name } } }"

    async def listed(**filter: object) -> list[str]:
        return sorted(node["name"] for node in (await server.ask(query, filter=filter))["nodes"])

    assert await listed(run=run) == ["a", "b"]
    assert await listed(run=run, kind="INPUT") == []
    assert await listed(run=run, tags={"n": 1}) == ["a"]
    assert await listed(run=run, tags={"n": 12, "w": "y"}) == ["b"]
    assert await listed(run=run, tags={"w": "X"}) == []
    assert "given.txt" in await listed(kind="INPUT")
    refused = (await server.post(query, {"filter": {"tags": {"n": 1}}})).json()
    assert refused["errors"][0]["extensions"]["code"] == "INVALID"
