"""Follows the lines of a job until the end of its feed, in a process of its own: how many came, and when last.

`python -m tests.bench.follower URL TOKEN JOB`. What reads a flood must not slow what measures it: the lines are
counted, and of each message the last one's time is read.
"""

import sys
import time

import orjson

from tests.bench.rows import p
from tests.bench.sockets import Socket

WATCH = """subscription($j: ID!, $a: Int64) { logs(job: $j, after: $a) {
  __typename ... on LinesAdded { lines { time text } } } }"""
_LINE = b'{"time":'


def follow(url: str, token: str, job: str) -> tuple[int, float, float, tuple[float, float]]:
    """How many lines came, the seconds from the first to the last, the longest pause, how late p50 and p99 came."""
    lines, pause = 0, 0.0
    first = last = 0.0
    late: list[float] = []
    socket = Socket(f"{url}/graphql", token)
    socket.subscribe(WATCH, j=job, a=0)
    while True:
        data = socket.received()
        now = time.time()
        for text in socket.messages(data):
            if text.startswith(b'{"id":"1","type":"complete"'):
                return lines, last - first, pause, (p(late, 50), p(late, 99))
            found = text.count(_LINE)  # what is said in a line has its quotes escaped
            if found:
                lines += found
                pause = max(pause, now - last) if last else 0.0
                first, last = first or now, now
                begin = text.rfind(_LINE) + len(_LINE)
                late.append(now - int(text[begin : text.find(b",", begin)]) / 1e6)


if __name__ == "__main__":
    sys.stdout.write(orjson.dumps(follow(*sys.argv[1:4])).decode())
