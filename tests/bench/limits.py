"""The limits to compare with, as a server: parse and answer, and the same bytes to every WebSocket.

`python -m tests.bench.limits PORT`. What it does is the least that the real server must do, too.
"""

import asyncio
import gc
import sys

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

ANSWER = orjson.dumps({"data": {"logMetrics": {"seq": 1, "errors": []}}})
_sockets: set[WebSocket] = set()


async def parse(request: Request) -> Response:
    """Read a GraphQL request's JSON and answer as the mutation would."""
    orjson.loads(await request.body())
    return Response(ANSWER, media_type="application/json")


async def push(request: Request) -> Response:
    """Send what was posted to every socket."""
    text = (await request.body()).decode()
    await asyncio.gather(*(socket.send_text(text) for socket in _sockets))
    return Response(ANSWER)


async def listen(socket: WebSocket) -> None:
    """Be sent what is pushed."""
    await socket.accept()
    _sockets.add(socket)
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        _sockets.discard(socket)


app = Starlette(
    routes=[
        Route("/graphql", parse, methods=["POST"]),
        Route("/push", push, methods=["POST"]),
        Route("/health", parse, methods=["GET"]),
        WebSocketRoute("/listen", listen),
    ]
)


if __name__ == "__main__":
    gc.disable()  # It makes no cycles, and a search among a thousand sockets would make the limit's p99 that of Python.
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        log_level="error",
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
    )
