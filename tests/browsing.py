"""What a test of the page needs: a server in a process of its own, and a browser that reaches nothing else.

The server is started as an operator would and can be killed; its home and port outlive it. A tab notes what a
page must not do (ask another origin, complain on its console) and every frame of its WebSockets.
"""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Route, WebSocket, expect

from rungraph.links import CREATE, explorer_path

START_SECONDS = 60.0
NEWEST = r"""^{\s*"data": {\s*"run": {\s*"__typename": "\w+",\s*"seq": """
"""How an answer begins that shows what a subscription to a run said last."""
ROOT = Path(__file__).parents[1]


class Server:
    """A real server of this test's own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        home.mkdir()

    def start(self) -> None:
        """Returns when it answers."""
        command = [sys.executable, "-m", "graph.serve", "--port", str(self.port)]
        with (self.home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self._environment(), stdout=log, stderr=log
            )
        for _ in range(int(START_SECONDS / 0.05)):
            if self._is_healthy():
                return
            try:
                code = self._process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"the server ended with {code}: {(self.home / 'server.log').read_text()}")
        raise AssertionError(f"the server did not answer in {START_SECONDS:.0f} s")

    def kill(self) -> None:
        """Ends it without a word, as a crash does."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ends it as an operator does."""
        if self._process and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(30)

    def ask(self, query: str, **variables: Any) -> Any:
        """The answer's data, as the administrator sees it."""
        token = (self.home / "token").read_text().strip()
        answer = httpx.post(
            f"{self.url}/graphql",
            json={"query": query, "variables": variables},
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        ).json()
        assert not answer.get("errors"), answer["errors"]
        return answer["data"]

    def command(self, *arguments: str) -> None:
        """`rungraph` with these arguments."""
        rungraph = Path(sys.executable).parent / "rungraph"
        subprocess.run([rungraph, *arguments], env=self._environment(), check=True, capture_output=True)

    def link(self, query: str = "", **variables: Any) -> str:
        """What `rungraph link` prints; with an operation, what `rungraph demo` prints."""
        then = explorer_path(query, variables) if query else "/graphql"
        payload = self.ask(CREATE, input={"then": then})["createLoginLink"]
        assert not payload["errors"]
        return f"{self.url}{payload['path']}"

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("RUNGRAPH_")}
        # A page shows the newest event, which is to be one of the job's own.
        return own | {"RUNGRAPH_HOME": str(self.home), "RUNGRAPH_USAGE_SECONDS": "0"}

    def _is_healthy(self) -> bool:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)):
                return False  # known at a hundredth of what a request in vain costs
        try:
            return httpx.get(f"{self.url}/health", trust_env=False).is_success
        except httpx.TransportError:
            return False


class Tab:
    """A page of the explorer, and what was noted of it."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.complaints: list[str] = []
        self.expected = "$^"
        """What complaints are none, as a regular expression."""
        self.foreign: list[str] = []
        self.events: list[dict[str, Any]] = []
        """What subscriptions said, of all connections, in order."""
        self.connections = 0
        self._origin = origin
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        context.route(re.compile(rf"^(?!{re.escape(origin)}/|data:|blob:)"), self._refuse)
        self.page = context.new_page()
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("websocket", self._connected)

    def open(self, address: str) -> None:
        """Returns when the editors are there."""
        self.page.goto(address)
        expect(self.page.locator(".graphiql-query-editor .view-line").first).to_be_visible()

    def choose(self, name: str) -> None:
        """Brings the tab of an operation to the front."""
        self.page.get_by_role("tab", name=name, exact=True).click()

    def execute(self, operation: str = "") -> None:
        """Presses the button; of several operations it asks for one."""
        button = self.page.get_by_role("button", name="Execute query")
        if operation:
            expect(button).to_have_attribute("aria-haspopup", "menu")
        button.click()
        if operation:
            self.page.get_by_role("menuitem", name=operation, exact=True).click()

    def fill_variables(self, variables: dict[str, Any]) -> None:
        """Pastes them over those that stand there."""
        self.page.locator(".graphiql-editor-tool .view-lines").first.click()
        self.page.keyboard.press("Control+a")
        self.page.evaluate("text => navigator.clipboard.writeText(text)", json.dumps(variables))
        self.page.keyboard.press("Control+v")

    @property
    def status(self) -> Locator:
        """The line about the connection."""
        return self.page.locator("#status")

    @property
    def answer(self) -> Locator:
        """The lines of the answer that are in sight."""
        return self.page.locator(".graphiql-response .view-lines")

    def expect_answer(self, pattern: str) -> str:
        """What the pattern or its group matches in the answer, as soon as it does."""
        expected = _in_editor(pattern)
        expect(self.answer).to_contain_text(expected)
        found = expected.search(self.answer.text_content() or "")
        assert found, f"{pattern} was there a moment ago"
        return found[expected.groups]

    def expect_newer(self, seq: int = 0) -> int:
        """The number of the newest event in sight, as soon as it is past this one."""
        expect(self.answer).not_to_contain_text(_in_editor(rf"{NEWEST}{seq}\b"))
        return int(self.expect_answer(rf"{NEWEST}(\d+)"))

    def wait_for_workers(self) -> None:
        """Wait until the editor has its three workers: for texts, for GraphQL and for the JSON of an answer."""
        while len(self.page.workers) < 3:
            self.page.wait_for_event("worker", timeout=START_SECONDS * 1000)
        self.page.wait_for_load_state("networkidle")

    def points(self) -> list[float]:
        """The values of all points that subscriptions told of."""
        batches = [event["series"] for event in self.events if event["__typename"] == "PointsAdded"]
        return [value for batch in batches for series in batch for value in series["values"]]

    def _refuse(self, route: Route) -> None:
        self.foreign.append(route.request.url)
        route.abort()

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _connected(self, connection: WebSocket) -> None:
        if connection.url != f"{self._origin.replace('http', 'ws')}/graphql":
            self.foreign.append(connection.url)
        self.connections += 1
        connection.on("framereceived", self._received)

    def _received(self, frame: str | bytes) -> None:
        message = json.loads(frame)
        if message["type"] == "next":
            self.events += message["payload"]["data"].values()


@contextmanager
def running(home: Path) -> Iterator[Server]:
    """A server for as long as the block lasts."""
    server = Server(home)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _in_editor(pattern: str) -> re.Pattern[str]:
    """The editor writes spaces that do not break and no newlines, and indents what it wraps."""
    return re.compile(pattern.replace(" ", r"\s+"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
