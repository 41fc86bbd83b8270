"""Secrets: set, listed by name, deleted. No field of the API ever holds a value."""

from datetime import datetime

import strawberry

from db import data_sources, secrets
from graph import nodes, paging, users
from graph.context import Context, Info
from graph.errors import UserError, refusing
from graph.nodes import Node, loads, maybe_key, public
from graph.paging import Connection


@strawberry.type(description="A named value of a project, which only jobs that name it ever get.")
class Secret(Node):
    """A secret, without its value."""

    row: strawberry.Private[secrets.Secret]
    name: str = strawberry.field(description="The environment variable it becomes; unique in its project.")
    created_at: datetime = strawberry.field(description="When it was first set.")
    updated_at: datetime = strawberry.field(description="When it was last set.")

    @classmethod
    def of(cls, row: secrets.Secret) -> "Secret":
        return cls(
            row=row,
            id=public("secret", row.id),
            name=row.name,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )

    @strawberry.field(description="Its project.")
    async def project(self, info: Info) -> users.Project:
        return await users.project(info.context, self.row.project_id)

    @strawberry.field(description="Who last set it.")
    async def updated_by(self, info: Info) -> users.User | None:
        found: users.User | None = await nodes.get(info.context, "user", self.row.updated_by)
        return found

    @strawberry.field(description="What uses it: functions as module/function, data sources by name.")
    async def used_by(self, info: Info) -> list[str]:
        used = await info.context.load(_naming, self.row.project_id)
        return [address for name, address in used if name == self.name]


@loads("secret")
async def load_secrets(context: Context, keys: list[bytes]) -> list[Secret | None]:
    """Secrets by key."""
    async with context.database.read() as session:
        rows = await secrets.find_secrets(session, context.viewer, keys)
    return nodes.by_key(keys, rows, Secret.of)


async def _naming(context: Context, keys: list[bytes]) -> list[list[tuple[str, str]]]:
    async with context.database.read() as session:
        rows = [*await secrets.naming(session, keys), *await data_sources.naming(session, keys)]
    return nodes.by_owner(keys, rows, lambda row: row[0], lambda row: (row[1], row[2]))


@strawberry.type
class SecretQuery:
    """Finding secrets."""

    @strawberry.field(description="Secrets by name and use, newest first; values are never given back.")
    async def secrets(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[Secret]:
        page = paging.page(first, after, last, before)
        async with info.context.database.read() as session:
            rows = await secrets.list_secrets(session, info.context.viewer, page)
        return paging.connect(rows, lambda row: row.id, Secret.of)


@strawberry.input(description="A secret to set. Send it in variables, not in the document.")
class SetSecretInput:
    """Input of setSecret."""

    name: str = strawberry.field(description="Name of an environment variable; not RUNGRAPH_…, PATH or HOME.")
    value: str = strawberry.field(description="1 byte to 64 KiB.")
    project: strawberry.ID | None = strawberry.field(
        default=None, description="The default project when not given."
    )


@strawberry.type(description="The secret, or every mistake.")
class SetSecretPayload:
    """Payload of setSecret."""

    secret: Secret | None = strawberry.field(default=None, description="The secret, without its value.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="A secret to delete.")
class DeleteSecretInput:
    """Input of deleteSecret."""

    name: str = strawberry.field(description="Its name.")
    project: strawberry.ID | None = strawberry.field(
        default=None, description="The default project when not given."
    )


@strawberry.type(description="What was deleted, or why it was refused.")
class DeleteSecretPayload:
    """Payload of deleteSecret."""

    name: str | None = strawberry.field(default=None, description="The name that is free now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class SecretMutation:
    """Setting and deleting secrets."""

    @strawberry.mutation(
        description="Set a secret; again, it is rotated: the next launches get the new value."
    )
    @refusing(SetSecretPayload)
    async def set_secret(self, info: Info, input: SetSecretInput) -> SetSecretPayload:
        context = info.context
        project = maybe_key("project", input.project, "project")
        secret_id = await context.act(
            secrets.put, input.name, input.value, context.around.vault.seal, project_id=project
        )
        return SetSecretPayload(secret=await context.load(load_secrets, secret_id))

    @strawberry.mutation(description="Delete a secret for ever; a job that needs it is launched no more.")
    @refusing(DeleteSecretPayload)
    async def delete_secret(self, info: Info, input: DeleteSecretInput) -> DeleteSecretPayload:
        context = info.context
        project = maybe_key("project", input.project, "project")
        deleted = await context.act(secrets.remove, input.name, project_id=project)
        return DeleteSecretPayload(name=deleted.name)
