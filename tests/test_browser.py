"""The explorer as somebody at a browser meets it: a real Chromium, a real server, a real run.

The browser reaches that server and nothing else, and after each test its pages must not have tried, nor
complained on their consoles, which is where a breach of the Content-Security-Policy shows.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from graph.pages import STATIC
from rungraph.demo import EXPLORE
from tests.browsing import Server, Tab, running
from tests.conftest import absent

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
REFUSED = r"Failed to load resource: the server responded with a status of 40[13]"
CUT = r"WebSocket connection to .* failed|Could not create web worker|undefined$|Event$"  # its socket, its scripts
SIGN_IN = "You are not signed in: open the one-time link that `rungraph link` prints."

MANIFEST = """\
name: slow
functions:
  count:
    description: Count, and say how far it is
    command: [python, count.py]
    options:
      points: {default: 30, doc: How far to count}
      gate: {default: "", doc: A file without which it does not get further than half}
"""
COUNT = """\
import json, os, time

with open(os.environ["RUNGRAPH_INPUT"] + "/input.json") as document:
    options = json.load(document)["options"]
points, gate = options["points"], options["gate"]
for step in range(1, points + 1):
    while gate and step > points / 2 and not os.path.exists(gate):
        time.sleep(0.01)
    print(json.dumps({"metric": {"counted": step / 8}, "step": step}), flush=True)
    if step == points // 2:
        print("half way", flush=True)
    time.sleep(0.02)
"""
CREATE = """mutation ($input: CreatePipelineInput!) {
  createPipeline(input: $input) { pipeline { id } errors { message } }
}"""
START = """mutation ($input: StartRunInput!) { startRun(input: $input) { run { id } errors { message } } }"""

STATE = "query ($run: ID!) { run(id: $run) { state } }"
POINTS = 50
HALF = rf'"values": \[.*\b{POINTS / 2 / 8}\b'

OpenTab = Callable[[], Tab]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        absent("browser", "no Chromium is installed")
    if not (STATIC / "index.html").is_file():
        absent("browser", "the explorer is not built: run `make explorer`")
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the module “slow”."""
    folder = tmp_path_factory.mktemp("browser")
    module = folder / "slow"
    module.mkdir()
    (module / "rungraph.yaml").write_text(MANIFEST)
    (module / "count.py").write_text(COUNT)
    with running(folder / "home") as server:
        server.command("module", "add", str(module))
        yield server


@pytest.fixture(scope="module")
def pipeline(server: Server) -> str:
    """The id of the pipeline “slow”, whose one step counts."""
    steps = [{"name": "count", "function": "slow/count"}]
    payload = server.ask(CREATE, input={"name": "slow", "steps": steps})["createPipeline"]
    assert not payload["errors"]
    return str(payload["pipeline"]["id"])


@pytest.fixture
def open_tab(browser: Browser, server: Server) -> Iterator[OpenTab]:
    """Opens a tab of a browser that was never here before."""
    tabs: list[Tab] = []

    def opened() -> Tab:
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        tabs.append(Tab(context, server.url))
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.page.context.close()
        assert tab.foreign == []
        assert [complaint for complaint in tab.complaints if not re.match(tab.expected, complaint)] == []


@pytest.fixture
def tab(open_tab: OpenTab, server: Server) -> Tab:
    """A tab that is signed in."""
    tab = open_tab()
    tab.open(server.link())
    return tab


@pytest.mark.slow
def test_a_signed_out_browser_is_told_to_open_the_link(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab()
    tab.expected = REFUSED
    tab.open(server.url)
    expect(tab.status).to_have_text(SIGN_IN)
    tab.execute()
    tab.expect_answer('"code": "UNAUTHENTICATED"')
    tab.choose("WatchRun")
    tab.execute()
    tab.expect_answer(SIGN_IN)
    assert tab.events == []
    expect(tab.status).to_have_text(SIGN_IN)


def test_a_link_signs_in_once(open_tab: OpenTab, server: Server) -> None:
    link = server.link()
    first, second = open_tab(), open_tab()
    first.open(link)
    assert first.page.url == f"{server.url}/graphql"
    first.execute()
    first.expect_answer('"runs": {')
    expect(first.status).to_be_hidden()

    second.expected = REFUSED
    second.page.goto(link)
    expect(second.page.locator("body")).to_contain_text("This link was used")
    second.open(server.url)
    expect(second.status).to_have_text(SIGN_IN)


@pytest.mark.slow
def test_a_query_is_answered(tab: Tab) -> None:
    tab.choose("Modules")
    tab.execute()
    tab.expect_answer('"address": "slow/count"')
    expect(tab.status).to_be_hidden()


def test_a_run_started_by_hand_is_watched_to_its_end(
    tab: Tab, server: Server, pipeline: str, tmp_path: Path
) -> None:
    tab.choose("StartRun")
    tab.execute("Pipelines")
    assert tab.expect_answer('"id": "(pipeline_[0-9a-z]+)"') == pipeline
    gate = tmp_path / "gate"  # however long the page takes, the run is not at its end before
    arguments = [{"step": "count", "arguments": {"points": POINTS, "gate": str(gate)}}]
    tab.fill_variables({"input": {"pipeline": pipeline, "arguments": arguments}})
    tab.execute("StartRun")
    run = tab.expect_answer('"id": "(run_[0-9a-z]+)"')

    tab.wait_for_workers()  # one that is still loading when the page is left would complain
    tab.open(server.link(EXPLORE, run=run, after=0))
    tab.execute()
    tab.expect_answer('"counted"')
    tab.expect_answer(HALF)
    seq = tab.expect_newer()
    assert server.ask(STATE, run=run)["run"]["state"] == "RUNNING"
    gate.touch()
    tab.expect_newer(seq)
    tab.expect_answer('"__typename": "FeedEnded"')
    assert tab.points() == [step / 8 for step in range(1, POINTS + 1)]


@pytest.mark.slow
def test_a_lost_connection_is_resumed_without_losing_a_number(
    open_tab: OpenTab, server: Server, pipeline: str, tmp_path: Path
) -> None:
    tab = open_tab()
    tab.expected = CUT
    gate = tmp_path / "gate"
    arguments = [{"step": "count", "arguments": {"gate": str(gate)}}]
    run = server.ask(START, input={"pipeline": pipeline, "arguments": arguments})["startRun"]["run"]["id"]
    tab.open(server.link(EXPLORE, run=run, after=0))
    tab.execute()
    tab.expect_answer('"counted"')

    tab.wait_for_workers()  # what the editor loads late is not what this is about
    server.kill()
    try:
        expect(tab.status).to_contain_text("trying again")
    finally:
        server.start()
    expect(tab.status).to_be_hidden()
    gate.touch()

    tab.expect_answer('"__typename": "FeedEnded"')
    *seqs, end = [event["seq"] for event in tab.events]
    assert seqs == list(range(1, end + 1))
    assert tab.points() == [step / 8 for step in range(1, 31)]
    assert tab.connections >= 2


@pytest.mark.slow
def test_lines_are_found_and_curves_drawn_of_a_run_that_ended(
    tab: Tab, server: Server, pipeline: str
) -> None:
    run = server.ask(START, input={"pipeline": pipeline})["startRun"]["run"]["id"]
    server.command("run", "watch", run)
    tab.choose("Curves")
    tab.fill_variables({"runs": [run], "names": ["counted"], "range": {"from": 29, "to": 40}})
    tab.execute()
    tab.expect_answer(r'"x": \[\s*29,\s*30\s*\]')
    tab.choose("FindLines")
    tab.fill_variables({"run": run, "filter": {"contains": "half"}, "before": None, "job": None})
    tab.execute("FindLines")
    tab.expect_answer('"text": "half way')


@pytest.mark.slow
def test_a_linked_operation_waits_for_the_button(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab()
    tab.open(server.link("{ server { version } }"))
    expect(tab.page.get_by_text("# From the link")).to_be_visible()
    expect(tab.page.locator(".graphiql-response")).not_to_contain_text("data")
    tab.execute()
    tab.expect_answer('"version": "')


@pytest.mark.slow
def test_documentation_and_completion_know_the_schema(tab: Tab) -> None:
    tab.page.get_by_role("button", name="Show Documentation Explorer").click()
    tab.page.get_by_role("link", name="Subscription").click()
    documentation = tab.page.locator(".graphiql-doc-explorer")
    expect(documentation).to_contain_text("Everything that happens to a run past the number")

    tab.page.get_by_role("button", name="New tab").click()
    tab.page.locator(".graphiql-query-editor .view-lines").click()
    tab.page.keyboard.type("{ pipeli")
    expect(tab.page.locator(".suggest-widget")).to_contain_text("pipelines")


def test_the_page_may_fetch_nothing_from_elsewhere(tab: Tab) -> None:
    tab.expected = ".*Content Security Policy"
    fetched = "fetch('https://elsewhere.invalid/').then(() => true, () => false)"
    assert tab.page.evaluate(fetched) is False
    assert tab.complaints != []
