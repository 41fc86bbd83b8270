"""The file of backends: what it may say, and that every mistake is told with its place and rule."""

from pathlib import Path

import pytest

from backends.base import Backend
from backends.configured import Caps, ConfigInvalid, Declared, read
from backends.registry import construct


def reading(folder: Path, text: str) -> list[tuple[Declared, Backend]]:
    """What a file with this text says."""
    path = folder / "backends.yaml"
    path.write_text(text)
    return read(path, lambda declared: construct(declared.kind, folder / declared.name, declared.options))


def test_backends_are_read_in_order_with_what_they_may_hold(tmp_path: Path) -> None:
    found = reading(
        tmp_path,
        """
backends:
  - {name: first, kind: local, slots: 4, cpus: 1.5, memory: 2GiB, gpus: 0, nice: 5}
  - name: second
    kind: local
    url: http://10.0.0.5:8000/
""",
    )
    assert [declared for declared, _ in found] == [
        Declared("first", "local", Caps(4, 1.5, 2 << 30, 0), {"nice": 5}),
        Declared("second", "local", Caps(), {}, "http://10.0.0.5:8000"),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "backends.yaml:1:1: the file says nothing [empty]"),
        ("backends: [", "[syntax]"),
        ("engines: []", "1:1: engines: the file has no key 'engines' [unknown-key]"),
        ("{}", "must have backends: a list of at least one [missing-key]"),
        ("backends: []", "1:11: backends: must list at least one backend [empty-list]"),
        ("backends: {}", "must be a list of backends, not a mapping [not-a-list]"),
        ("backends: [local]", "backends[0]: a backend must be a mapping of keys"),
        ("backends: [{kind: local}]", "backends[0]: must have a name [missing-key]"),
        ("backends: [{name: here}]", "backends[0]: must have a kind: local"),
        ("backends: [{name: Here, kind: local}]", "backends[0].name: must be lower-case letters"),
        ("backends: [{name: here, kind: locl}]", "did you mean 'local'? [kind]"),
        ("backends: [{name: a, kind: local}, {name: a, kind: local}]", "is called 'a' already [twice]"),
        (
            "backends: [{name: a, kind: local, slots: 0}]",
            "backends[0].slots: must be from 1 to 1000000, not 0",
        ),
        ("backends: [{name: a, kind: local, memory: much}]", "must be an amount such as 512MiB"),
        ("backends: [{name: a, kind: local, url: here}]", "must be http://host:port"),
        (
            "backends: [{name: a, kind: local, nicer: 1}]",
            "is no option of this kind of backend; did you mean 'nice'?",
        ),
        (
            "backends: [{name: a, kind: local, nice: 20}]",
            "1:41: backends[0].nice: must be from 0 to 19, not 20 [option]",
        ),
        ("backends: [{name: a, kind: local, nice: low}]", "must be a whole number, not 'low' [option]"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_rule(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        reading(tmp_path, text)
    assert told in str(refused.value)


def test_every_mistake_of_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        reading(
            tmp_path, "backends:\n- {name: a, kind: local, gpus: -1}\n- {name: b, kind: local, nice: 99}\n"
        )
    assert [problem.line for problem in refused.value.problems] == [2, 3]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.yaml"
    with pytest.raises(ConfigInvalid, match=r"nowhere\.yaml:1:1: cannot be read: No such file"):
        read(path, lambda declared: construct(declared.kind, tmp_path, declared.options))
