"""A job's process without a network: what it logs waits in its folder for whoever launched it."""

import time
from pathlib import Path

from tests.client.peer import TOKEN
from tests.client.test_log import run_python


def test_a_job_without_a_network_keeps_its_points_for_its_launcher_and_waits_for_nobody(
    tmp_path: Path,
) -> None:
    code = "import rungraph\nfor step in range(100): rungraph.log(loss=step, step=step)\nrungraph.flush()"
    spool = tmp_path / "spool"
    began = time.monotonic()
    ended = run_python(
        code,
        RUNGRAPH_URL="http://127.0.0.1:9",
        RUNGRAPH_TOKEN=TOKEN,
        RUNGRAPH_SPOOL=str(spool),
        RUNGRAPH_JOB_ID="job",
        RUNGRAPH_OFFLINE="1",
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert time.monotonic() - began < 10  # it would ask for twelve seconds
    assert [path.stat().st_size > 0 for path in spool.glob("job-1-0/*.batches")] == [True]
