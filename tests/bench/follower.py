"""Follows the lines of a job until the end of its feed, in a process of its own: how many came, and when last.

`python -m tests.bench.follower URL TOKEN JOB`. What reads a flood must not slow what measures it.
"""

import asyncio
import sys
import time

import orjson
from websockets import Subprotocol
from websockets.asyncio.client import connect

from tests.bench.rows import p

WATCH = """subscription($j: ID!, $a: Int64) { logs(job: $j, after: $a) {
  __typename ... on LinesAdded { lines { time text } } } }"""


async def follow(url: str, token: str, job: str) -> tuple[int, float, float, tuple[float, float]]:
    """How many lines came, the seconds from the first to the last, the longest pause, how late p50 and p99 came."""
    lines, pause = 0, 0.0
    first = last = 0.0
    late: list[float] = []
    async with connect(
        url.replace("http", "ws") + "/graphql",
        subprotocols=[Subprotocol("graphql-transport-ws")],
        additional_headers={"Authorization": f"Bearer {token}"},
        compression=None,
        proxy=None,
        max_size=None,
    ) as socket:
        await socket.send('{"type":"connection_init"}')
        await socket.recv()
        payload = {"query": WATCH, "variables": {"j": job, "a": 0}}
        await socket.send(orjson.dumps({"id": "1", "type": "subscribe", "payload": payload}).decode())
        async for text in socket:
            message = orjson.loads(text)
            if message["type"] == "complete":
                break
            if message["type"] == "next" and "lines" in message["payload"]["data"]["logs"]:
                now, found = time.time(), message["payload"]["data"]["logs"]["lines"]
                lines += len(found)
                pause = max(pause, now - last) if last else 0.0
                first, last = first or now, now
                late.append(now - found[-1]["time"] / 1e6)
    return lines, last - first, pause, (p(late, 50), p(late, 99))


if __name__ == "__main__":
    sys.stdout.write(orjson.dumps(asyncio.run(follow(*sys.argv[1:4]))).decode())
