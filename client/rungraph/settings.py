"""Where the server is and who we are: the only reader of the client's environment.

What is given on the command line wins, then RUNGRAPH_URL and RUNGRAPH_TOKEN, then what a server of this
machine left in RUNGRAPH_HOME (default ~/.rungraph): `url` while it runs, and the administrator's `token`,
which only its owner may read.
"""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rungraph.errors import BadUsage

DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Settings:
    """A server's address, without a slash at the end, and the token to show it, if there is one."""

    url: str
    token: str | None


def find(
    url: str | None = None, token: str | None = None, environ: Mapping[str, str] = os.environ
) -> Settings:
    """The server and token to use; raises BadUsage when an address is not one."""
    left = _first_line(home(environ) / "url")
    address = normal_url(url or environ.get("RUNGRAPH_URL") or left or DEFAULT_URL)
    token = token or environ.get("RUNGRAPH_TOKEN")
    # The administrator's token is never shown to a machine that did not leave it here.
    if not token and (address == left or is_loopback(address)):
        token = _first_line(home(environ) / "token")
    return Settings(address, token or None)


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """RUNGRAPH_HOME, where a server of this machine keeps what is its own."""
    return Path(environ.get("RUNGRAPH_HOME") or "~/.rungraph").expanduser()


def normal_url(text: str) -> str:
    """An address as the client wants it: with scheme and host, without `/graphql` or a slash at the end."""
    url = text.strip().rstrip("/").removesuffix("/graphql")
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, a port that is no number
        sound = False
    if not sound:
        raise BadUsage(f"“{text}” is not the address of a server: write it like {DEFAULT_URL}")
    return url


def is_loopback(url: str) -> bool:
    """Whether the address can only be this machine's."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _first_line(path: Path) -> str | None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BadUsage(f"cannot read {path}: {error}") from error
    return lines[0].strip() if lines else None
