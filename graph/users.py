"""Who asks, their projects, and the browser's way in: a link that is good once."""

from datetime import datetime, timedelta
from enum import Enum
from urllib.parse import quote

import strawberry

from db import columns, errors, projects, users, viewers
from graph import nodes
from graph.context import Context, Info
from graph.errors import UserError, refusing
from graph.nodes import Node, loads, public

LINK_LASTS = timedelta(minutes=10)


@strawberry.enum(description="What kind of credential a request carries.")
class ViewerKind(Enum):
    """Kinds of viewers that reach the API."""

    ADMINISTRATOR = strawberry.enum_value(
        "ADMINISTRATOR", description="Of the server: sees and may do everything."
    )
    USER = strawberry.enum_value("USER", description="A person.")
    JOB = strawberry.enum_value("JOB", description="A job that reports about itself.")


@strawberry.type(description="A person.")
class User(Node):
    """A user."""

    name: str = strawberry.field(description="Unique.")


@strawberry.type(description="The boundary of ownership and permission; every object is in one.")
class Project(Node):
    """A project."""

    name: str = strawberry.field(description="Unique.")
    metrics_days: int | None = strawberry.field(
        default=None,
        description="For how many days every point of ended runs is kept; null: for ever (setRetention).",
    )
    logs_days: int | None = strawberry.field(
        default=None, description="For how many days the lines of ended runs are kept; null: for ever."
    )

    @classmethod
    def of(cls, row: projects.Project) -> "Project":
        return cls(
            id=public("project", row.id),
            name=row.name,
            metrics_days=row.metrics_days,
            logs_days=row.logs_days,
        )


@strawberry.type(description="Who asks.")
class Viewer:
    """The bearer of the request's credential."""

    kind: ViewerKind = strawberry.field(description="What kind of credential it is.")
    user: User | None = strawberry.field(description="The person, unless it is a job.")
    projects: list[Project] = strawberry.field(description="What the viewer may see.")


@loads("project")
async def load_projects(context: Context, keys: list[bytes]) -> list[Project | None]:
    """Projects by key."""
    async with context.database.read() as session:
        rows = await projects.find_all(session, context.viewer, keys)
    return nodes.by_key(keys, rows, Project.of)


@loads("user")
async def load_users(context: Context, keys: list[bytes]) -> list[User | None]:
    """Users by key: people see themselves, an administrator everybody."""
    viewer = context.viewer
    async with context.database.read() as session:
        rows = [await users.get(session, k) if viewer.sees_all or k == viewer.user_id else None for k in keys]
    return [None if row is None else User(id=public("user", row.id), name=row.name) for row in rows]


async def project(context: Context, key: bytes) -> Project:
    """The project of an object that the viewer sees."""
    found = await context.load(load_projects, key)
    return found or Project(id=public("project", key), name="")


@strawberry.type
class UserQuery:
    """Who asks."""

    @strawberry.field(description="Who asks.")
    async def viewer(self, info: Info) -> Viewer:
        viewer = info.context.viewer
        async with info.context.database.read() as session:
            seen = await projects.list_all(session, viewer)
            row = await users.get(session, viewer.user_id) if viewer.user_id else None
        return Viewer(
            kind=ViewerKind(viewer.kind.value),
            user=User(id=public("user", row.id), name=row.name) if row else None,
            projects=[Project.of(one) for one in seen],
        )


@strawberry.input(description="Where to go after the login.")
class CreateLoginLinkInput:
    """Input of createLoginLink."""

    then: str = strawberry.field(
        default="/graphql", description="A path of this server, opened after the login."
    )


@strawberry.type(description="The link, or why there is none.")
class CreateLoginLinkPayload:
    """Payload of createLoginLink."""

    path: str | None = strawberry.field(
        default=None, description="Path and query, good once, for ten minutes."
    )
    expires_at: datetime | None = strawberry.field(default=None, description="When it stops being good.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class UserMutation:
    """The browser's way in."""

    @strawberry.mutation(description="A link that logs a browser in, once, as whoever asks for it.")
    @refusing(CreateLoginLinkPayload)
    async def create_login_link(self, info: Info, input: CreateLoginLinkInput) -> CreateLoginLinkPayload:
        context = info.context
        viewers.require_administrator(context.viewer)
        if not input.then.startswith("/") or input.then.startswith(("//", "/\\")):
            raise errors.Invalid("must be a path of this server, beginning with one /", path=("then",))
        token = await context.act(users.issue, users.TokenKind.LINK, LINK_LASTS)
        # What stands behind the # never reaches a server: the login page carries it over by itself.
        then, _, fragment = input.then.partition("#")
        path = f"/login?link={token}&then={quote(then, safe='/')}" + (f"#{fragment}" if fragment else "")
        return CreateLoginLinkPayload(path=path, expires_at=columns.now() + LINK_LASTS)
