"""Where the client finds its server and token."""

from pathlib import Path

import pytest

from rungraph import settings
from rungraph.errors import BadUsage


def leave(home: Path, url: str | None = None, token: str | None = None) -> dict[str, str]:
    """A home as a server leaves it; the environment that names it."""
    if url:
        (home / "url").write_text(f"{url}\n")
    if token:
        (home / "token").write_text(f"{token}\n")
    return {"RUNGRAPH_HOME": str(home)}


def test_without_anything_it_is_this_machine_and_no_token(home: Path) -> None:
    assert settings.find(environ=leave(home)) == settings.Settings("http://127.0.0.1:8000", None)


def test_a_server_of_this_machine_is_found_by_what_it_left(home: Path) -> None:
    environ = leave(home, "http://127.0.0.1:8123", "left")
    assert settings.find(environ=environ) == settings.Settings("http://127.0.0.1:8123", "left")


def test_the_environment_wins_over_the_home_and_options_over_both(home: Path) -> None:
    environ = leave(home, "http://127.0.0.1:1", "left")
    environ |= {"RUNGRAPH_URL": "https://graph.example/", "RUNGRAPH_TOKEN": "set"}
    assert settings.find(environ=environ) == settings.Settings("https://graph.example", "set")
    found = settings.find("http://option:9/graphql", "given", environ)
    assert found == settings.Settings("http://option:9", "given")


def test_the_token_of_this_machine_is_not_shown_to_another(home: Path) -> None:
    environ = leave(home, token="left")
    assert settings.find("https://graph.example", environ=environ).token is None
    assert settings.find("http://localhost:9000", environ=environ).token == "left"
    assert settings.find("http://[::1]:9000", environ=environ).token == "left"


def test_the_token_goes_to_the_address_its_server_left(home: Path) -> None:
    environ = leave(home, "http://10.1.2.3:8000", "left")
    assert settings.find("http://10.1.2.3:8000/", environ=environ).token == "left"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "word"])
def test_what_is_no_address_is_refused(url: str, home: Path) -> None:
    with pytest.raises(BadUsage, match="is not the address of a server"):
        settings.find(url, environ=leave(home))


def test_a_token_that_cannot_be_read_is_told(home: Path) -> None:
    (home / "token").mkdir()
    with pytest.raises(BadUsage, match=r"cannot read .*token"):
        settings.find(environ={"RUNGRAPH_HOME": str(home)})


def test_without_a_home_it_is_below_the_users() -> None:
    assert settings.home({}) == Path("~/.rungraph").expanduser()
