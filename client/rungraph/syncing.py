"""`rungraph run sync`: sends what training code could not send before it ended.

Each folder of spools belongs to one run. What a process that still lives has there is left to it.
"""

import asyncio
import json
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from rungraph import exits, invocation, settings, spool
from rungraph.errors import BadUsage
from rungraph.output import Output
from rungraph.sender import ABOUT, Sender, Target
from rungraph.spool import Spool
from rungraph.targets import folder_of_token

PATIENCE_SECONDS = 30.0


def add_to(app: typer.Typer) -> None:
    """Add it to the verbs of `rungraph run`."""
    app.command("sync")(sync_)


def sync_(
    ctx: typer.Context,
    folder: Annotated[
        Path | None, typer.Argument(help="Of spools; RUNGRAPH_HOME/spool if not given.")
    ] = None,
) -> None:
    """Send what `rungraph.log` could not send before its process ended."""

    async def main(output: Output) -> int:
        if folder is not None and not folder.is_dir():
            raise BadUsage(f"{folder}: there is no such folder here")
        asked = invocation.of(ctx)
        found = settings.find(asked.url, asked.token)
        rows, broken = [], False
        for each in sorted((folder or settings.home() / "spool").glob("*/")):
            try:
                target = _target(each, found)
            except BadUsage as error:  # a power cut left nothing in it, say: the others are sent all the same
                output.say(str(error))
                broken = True
                continue
            spools = list(spool.orphans(each, output.say))
            if target is not None and (spools or _ending(each) is not None):
                rows.append((each, *await asyncio.to_thread(_send, target, spools, _ending(each), output)))
            else:
                for one in spools:
                    output.say(f"{each} holds {len(one)} batches of a token that is not known here")
                    one.close()
        if output.as_json:
            names = ("folder", "run", "sent", "left")
            output.document([dict(zip(names, (str(row[0]), *row[1:]), strict=True)) for row in rows])
        else:
            output.table(
                ("RUN", "SENT", "LEFT"),
                [(run or each.name, str(sent), str(left)) for each, run, sent, left in rows],
            )
        if any(left for *_, left in rows):
            return exits.UNAVAILABLE
        return exits.FAILED if broken else exits.OK

    invocation.run(ctx, main)


def _send(
    target: Target, spools: list[Spool], ending: dict[str, Any] | None, output: Output
) -> tuple[str | None, int, int]:
    """The run's id if it is known, and how many batches were sent and are left."""
    sender = Sender(target, lambda about, message: output.say(message))
    sender.spools.extend(spools)
    sender.ending = ending
    before = sum(map(len, spools))
    thread = threading.Thread(target=sender.work, args=[lambda: True], daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    left = sum(map(len, spools))
    if not thread.is_alive():
        for one in spools:
            one.close()
        sender.tidy()
    return sender.run_id, before - left, left


def _target(folder: Path, found: settings.Settings) -> Target | None:
    """The run of a folder: as its process wrote it down, or that of the token that is shown now."""
    about = _about(folder)
    if about is None:
        ours = found.token is not None and folder.name == folder_of_token(found.url, found.token)
        return Target(found.url, found.token, folder) if ours else None
    if about["token"]:
        return Target(about["url"], about["token"], folder, about["rank"])
    # It was never made: whoever asks now makes it, if that is for the same server.
    if about["url"] != found.url:
        return None
    return Target(found.url, found.token, folder, about["rank"], None, about["create"])


def _ending(folder: Path) -> dict[str, Any] | None:
    about = _about(folder)
    ending: dict[str, Any] | None = None if about is None else about["ending"]
    return ending


def _about(folder: Path) -> dict[str, Any] | None:
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text())
        return about
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise BadUsage(f"{folder / ABOUT} cannot be read: {error}") from error
