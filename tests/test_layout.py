"""The rules of the layout that a machine can keep: where things are, what they are called, who imports what.

import-linter keeps the directions between our packages; here is the rest: files, names, outside imports, and
files that must agree with one another (README with settings and Makefile, the explorer with the schema).
What git ignores is nobody's business here; what it does not know yet is checked as if it were committed.
"""

import ast
import importlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLSchema, OperationDefinitionNode, build_schema, parse, validate
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

ROOT = Path(__file__).parents[1]
LONGEST = 400
SOURCES = {".py", ".js", ".jsx", ".css", ".sh"}
BANNED = {"util", "utils", "helper", "helpers", "common", "manager", "managers", "service", "services"}

# What each layer leaves to another: GraphQL and HTTP to graph, SQL to db, containers to their adapter.
FOREIGN = {
    "graph": {"sqlalchemy", "alembic", "aiodocker", "docker", "kubernetes"},
    "backends": {"strawberry", "starlette", "uvicorn"},
    "db": {"strawberry", "starlette", "uvicorn", "aiodocker", "docker", "kubernetes"},
    "client": {"strawberry", "starlette", "sqlalchemy"},
}
ADAPTERS = ("local", "docker", "kubernetes", "fake")
# They run where nothing of ours is installed: in a job's environment, in a process started by path.
BARE = (
    "client/rungraph/__init__.py",
    "backends/watcher.py",
    "backends/kubernetes/courier.py",
    "backends/kubernetes/fetch.py",
)
# What graph has beside aggregates, and the functions, which are a part of modules. A file that is neither here
# nor in db is in the wrong place or misnamed.
PLUMBING = {
    "app", "serve", "serving", "garbage", "supervising", "working", "settings", "http", "guard", "content", "pages",
    "schema", "context",
    "credentials", "encoding", "errors", "paging", "cost", "live", "sharing", "topics", "pacing", "sockets", "sse",
    "events", "watching", "timeline", "nodes", "scalars", "frames",
    "log_text", "archives", "export_formats", "literals", "wire", "connections",
    "functions", "execution", "leaves", "levels", "remembered", "surroundings", "sweeping", "enums", "variables",
}  # fmt: skip

# Spelt in pieces, so that this file does not name them either.
REGISTRIES = r"\b(?:pypi|pythonhosted|npmjs|debian)" + r"\.(?:org|com)\b"
MACHINE_PATHS = r"(?<![\w.$}])/" + r"(?:root|Users)/\w"


@cache
def files() -> tuple[Path, ...]:
    """Every file of the checkout that git tracks or would track, relative to its root."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return tuple(sorted(Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()))


def modules(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    """The Python files below the folders, all by default, with their syntax trees."""
    for path in files():
        if (
            path.suffix == ".py"
            and "versions" not in path.parts
            and (not folders or path.parts[0] in folders)
        ):
            yield path, syntax(ROOT / path)


@cache
def syntax(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(), filename=str(path))


def imports(tree: ast.Module) -> set[str]:
    """The dotted names that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def texts() -> Iterator[tuple[Path, str]]:
    for path in files():
        try:
            yield path, (ROOT / path).read_text()
        except UnicodeDecodeError:
            continue


def test_every_folder_of_tests_is_a_package() -> None:
    folders = {path.parent for path in files() if path.parts[0] == "tests" and path.suffix == ".py"}
    lacking = {folder for folder in folders if not (ROOT / folder / "__init__.py").is_file()}
    assert Path("tests") in folders
    assert not lacking, "else tests/graph shadows graph"


def test_no_file_is_too_long() -> None:
    lengths = {
        str(path): len((ROOT / path).read_text().splitlines())
        for path in files()
        if path.suffix in SOURCES and "versions" not in path.parts
    }
    assert not {path: length for path, length in lengths.items() if length > LONGEST}, "split by noun"


def test_names_say_what_is_inside() -> None:
    banned = [path for path in files() if BANNED & set(re.split(r"[_./-]", path.as_posix().lower()))]
    assert not banned


def test_every_module_says_what_it_is_for() -> None:
    silent = [path for path, tree in modules() if tree.body and not (ast.get_docstring(tree) or "").strip()]
    assert not silent


@pytest.mark.parametrize("layer", FOREIGN)
def test_a_layer_leaves_to_others_what_is_theirs(layer: str) -> None:
    foreign = [
        f"{path}: {name}"
        for path, tree in modules(layer)
        for name in imports(tree)
        if name.split(".")[0] in FOREIGN[layer]
    ]
    assert not foreign


def test_adapters_do_not_know_one_another() -> None:
    others = {f"backends.{adapter}" for adapter in ADAPTERS}
    entangled = [
        f"{path}: {name}"
        for path, tree in modules("backends")
        if (own := path.with_suffix("").parts[1]) in ADAPTERS
        for name in imports(tree)
        if any(f"{name}.".startswith(f"{other}.") for other in others - {f"backends.{own}"})
    ]
    assert not entangled


def ours(name: str) -> Path | None:
    """The file of one of our modules, given its dotted name or that of something in it."""
    folder = ROOT / "client" if name.startswith("rungraph.") else ROOT
    for parts in (name.split("."), name.split(".")[:-1]):
        for path in (folder.joinpath(*parts).with_suffix(".py"), folder.joinpath(*parts, "__init__.py")):
            if parts and path.is_file():
                return path
    return None


@pytest.mark.parametrize("first", BARE)
def test_what_runs_inside_a_job_needs_the_standard_library_alone(first: str) -> None:
    outside: set[str] = set()
    seen: set[Path] = set()
    waiting = {ROOT / first}
    while waiting:
        seen.add(path := waiting.pop())
        for name in imports(syntax(path)):
            if name.split(".")[0] in sys.stdlib_module_names:
                continue
            if found := ours(name):
                waiting |= {found} - seen
            else:
                outside.add(f"{path.relative_to(ROOT)}: {name}")
    assert not outside


def test_only_the_database_commits() -> None:
    committing = {
        str(path)
        for path, tree in modules("graph", "backends", "db")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit"
    }
    assert committing <= {"db/database.py", "db/schema.py"}, (
        "schema.py commits migrations, database.py all else"
    )


def test_an_aggregate_has_one_stem_in_every_layer() -> None:
    stems = {
        folder: {path.stem for path, _ in modules(folder) if len(path.parts) == 2} - {"__init__"}
        for folder in ("graph", "db")
    }
    assert stems["graph"] - PLUMBING <= stems["db"]


def test_locks_name_no_place_to_fetch_from() -> None:
    pinned = [path for path in files() if re.fullmatch(r"requirements.*\.txt", path.name)]
    assert len(pinned) == 5
    for path in pinned:
        text = (ROOT / path).read_text()
        assert "--hash=sha256:" in text
        assert not re.search(r"://|--(?:extra-)?index-url|--find-links|--trusted-host", text), path
    lock = json.loads((ROOT / "graph/explorer/package-lock.json").read_text())
    assert [name for name, package in lock["packages"].items() if name and "integrity" not in package] == []
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []


def test_dependencies_of_the_explorer_are_pinned_exactly() -> None:
    package = json.loads((ROOT / "graph/explorer/package.json").read_text())
    versions = package["dependencies"] | package["devDependencies"]
    assert [f"{name} {version}" for name, version in versions.items() if not version[0].isdigit()] == []


@pytest.mark.parametrize("pattern", [REGISTRIES, MACHINE_PATHS], ids=["registry hosts", "machine paths"])
def test_no_file_names_where_it_was_made(pattern: str) -> None:
    named = [f"{path}: {found[0]}" for path, text in texts() if (found := re.search(pattern, text))]
    assert not named


def settings() -> set[str]:
    """The variables that graph.settings reads."""
    assert (ROOT / "graph/settings.py").is_file(), (
        "graph/settings.py, the only reader of the environment, is missing"
    )
    names: set[str] = set()
    for found in vars(importlib.import_module("graph.settings")).values():
        if isinstance(found, type) and issubclass(found, BaseSettings) and found is not BaseSettings:
            prefix = found.model_config.get("env_prefix", "")
            for name, field in found.model_fields.items():
                alias = field.validation_alias
                choices = alias.choices if isinstance(alias, AliasChoices) else [alias or prefix + name]
                names |= {str(choice).upper() for choice in choices}
    assert any(name.startswith("RUNGRAPH_") for name in names), "graph/settings.py has no settings"
    return names


def variables(text: str) -> set[str]:
    return set(re.findall(r"\bRUNGRAPH_[A-Z0-9_]*[A-Z0-9]\b", text))


def test_every_setting_is_in_the_readme() -> None:
    assert settings() - variables((ROOT / "README.md").read_text()) == set()


def test_the_readme_names_no_variable_that_nothing_reads() -> None:
    read = set[str]().union(*(variables(text) for path, text in texts() if path.suffix == ".py"))
    assert variables((ROOT / "README.md").read_text()) - read - settings() == set()


@pytest.mark.parametrize(
    ("document", "needed"),
    [("README.md", {"demo", "serve", "test"}), ("CONTRIBUTING.md", {"lint", "schema"})],
)
def test_the_make_targets_that_are_named_exist(document: str, needed: set[str]) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`|\$ )make ([a-z][a-z-]*)", (ROOT / document).read_text(), re.MULTILINE))
    assert needed <= named, "it does not tell how to start"
    assert named <= targets


def test_both_distributions_have_one_version() -> None:
    projects = [
        tomllib.loads((ROOT / path).read_text()) for path in ("pyproject.toml", "client/pyproject.toml")
    ]
    assert len({project["project"]["version"] for project in projects}) == 1


@cache
def schema() -> GraphQLSchema:
    """The API, as it is committed."""
    return build_schema((ROOT / "schema.graphql").read_text())


EXAMPLES = sorted((ROOT / "graph/explorer/examples").glob("*.graphql"))


def test_the_explorer_has_examples() -> None:
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_of_the_explorer_fits_the_schema(path: Path) -> None:
    document = parse(path.read_text())
    assert validate(schema(), document) == []
    declared = {
        variable.variable.name.value
        for operation in document.definitions
        if isinstance(operation, OperationDefinitionNode)
        for variable in operation.variable_definitions or ()
    }
    given = path.with_suffix(".json")
    assert (set(json.loads(given.read_text())) if given.is_file() else set()) == declared


def test_the_docs_index_names_every_page() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    named = set(re.findall(r"\]\((\w+\.md)\)", (ROOT / "docs/README.md").read_text()))
    assert named == pages


def undescribed(schema: GraphQLSchema) -> Iterator[str]:
    """What of a schema has no words, by its path."""
    for name, kind in schema.type_map.items():
        if name.startswith("__"):
            continue
        parts: dict[str, Any] = {name: kind}
        parts |= {f"{name}.{part}": value for part, value in getattr(kind, "fields", {}).items()}
        parts |= {f"{name}.{part}": value for part, value in getattr(kind, "values", {}).items()}
        parts |= {
            f"{path}({argument})": value
            for path, field in parts.items()
            for argument, value in getattr(field, "args", {}).items()
        }
        yield from (path for path, part in parts.items() if not (part.description or "").strip())


def test_everything_in_the_schema_is_described() -> None:
    assert not list(undescribed(schema()))


def test_a_part_without_words_is_found() -> None:
    bare = build_schema(
        "type Query { one(of: In): E } input In { a: Int } enum E { A } scalar S union U = Query"
    )
    assert set(undescribed(bare)) == {
        "Query", "Query.one", "Query.one(of)", "In", "In.a", "E", "E.A", "S", "U",
    }  # fmt: skip
