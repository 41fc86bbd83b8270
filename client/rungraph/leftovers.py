"""What a job's processes could not send before they ended, sent for them: `python -m rungraph.leftovers FOLDER`.

The server of the job's machine starts this before it records the job's end, with the job's own address and token in
the environment, and ends it when it takes too long. Standard library alone.
"""

import os
import sys
from pathlib import Path

from rungraph.sender import Sender, Target
from rungraph.spool import orphans


def main() -> None:
    """Send what lies in the folder of an attempt's spools; ends when everything has arrived, or never will: with 1."""
    refused = False
    folder, url, token = Path(sys.argv[1]), os.environ["RUNGRAPH_URL"], os.environ["RUNGRAPH_TOKEN"]
    for each in sorted(folder.glob("*/")):
        rank = each.name.rpartition("-")[2]  # as targets.py names the folder of a worker
        sender = Sender(Target(url, token, each, int(rank) if rank.isdecimal() else 0), _tell)
        sender.spools.extend(orphans(each, lambda message: _tell("spool", message)))
        sender.work(lambda: True)
        for spool in sender.spools:
            spool.close()  # what has arrived is not there any more: whoever started us looks what is
        refused = refused or sender.refused
    sys.exit(int(refused))


def _tell(_about: str, message: str) -> None:
    sys.stderr.write(f"{message}\n")


if __name__ == "__main__":
    main()
