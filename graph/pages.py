"""What a browser is given: the explorer, and the login by a link that is good once.

The page fetches nothing from elsewhere and runs nothing inline; the Content-Security-Policy holds it to that.
"""

from datetime import timedelta
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response

from db import users
from graph.credentials import COOKIE
from graph.surroundings import Surroundings

STATIC = Path(__file__).parent / "static"
SESSION_LASTS = timedelta(days=30)
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self' blob:",
        "style-src 'self' 'unsafe-inline'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def wants_page(request: Request) -> bool:
    """Whether a browser asks for something to look at."""
    return request.method in ("GET", "HEAD") and "text/html" in request.headers.get("accept", "")


async def explorer(_request: Request) -> Response:
    """The explorer's page."""
    page = STATIC / "index.html"
    if not page.is_file():
        return PlainTextResponse("The explorer is not built: run `make explorer`.\n", 503)
    return FileResponse(page, headers=_HEADERS)


async def login(request: Request) -> Response:
    """Exchange the link for a cookie, and go where it leads; a browser keeps what stands behind the #."""
    around: Surroundings = request.app.state.around
    then = request.query_params.get("then", "/graphql")
    if not then.startswith("/") or then.startswith(("//", "/\\")):
        return PlainTextResponse("The link leads out of this server.\n", 400)
    if request.method == "HEAD":  # of a mail or chat program that looks what a link is
        return PlainTextResponse("")
    async with around.database.begin() as session:
        token = await users.redeem(session, request.query_params.get("link", ""), SESSION_LASTS)
    if token is None:
        words = "This link was used, or is older than ten minutes: `rungraph link` prints another.\n"
        return PlainTextResponse(words, 403)
    response = RedirectResponse(
        then, 303, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    )
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(SESSION_LASTS.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return response


async def home(_request: Request) -> Response:
    """/ leads to the explorer."""
    return RedirectResponse("/graphql", 307)
