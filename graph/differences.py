"""What two versions of a module differ in, as the API shows it."""

import strawberry
from strawberry.scalars import JSON

from db import differences


@strawberry.type(description="One property that changed.")
class Change:
    """A change."""

    field: str = strawberry.field(description="As manifests name it: type, default, minimum, command, …")
    before: JSON | None = strawberry.field(description="What it was.")
    after: JSON | None = strawberry.field(description="What it is.")


@strawberry.type(description="An option that changed.")
class OptionChange:
    """A changed option."""

    name: str = strawberry.field(description="The option.")
    changes: list[Change] = strawberry.field(description="Its type, default, bounds, values, doc, required.")


@strawberry.type(description="A function that changed.")
class FunctionChange:
    """A changed function."""

    name: str = strawberry.field(description="The function.")
    changes: list[Change] = strawberry.field(
        description="Its command, resources, accepted files and the like."
    )
    options_added: list[str] = strawberry.field(description="Options that came.")
    options_removed: list[str] = strawberry.field(description="Options that went.")
    options_changed: list[OptionChange] = strawberry.field(description="Options that are different.")


@strawberry.type(description="What is different between two states of a module; equal ones have empty lists.")
class VersionChanges:
    """Changes from one version to another."""

    changes: list[Change] = strawberry.field(description="The module's own: requirements, image, texts.")
    functions_added: list[str] = strawberry.field(description="Functions that came.")
    functions_removed: list[str] = strawberry.field(description="Functions that went.")
    functions_changed: list[FunctionChange] = strawberry.field(description="Functions that are different.")

    @classmethod
    def of(cls, found: differences.Difference) -> "VersionChanges":
        return cls(
            changes=_changes(found),
            functions_added=list(found.added),
            functions_removed=list(found.removed),
            functions_changed=[_function(difference) for difference in found.changed],
        )


def _function(found: differences.Difference) -> FunctionChange:
    return FunctionChange(
        name=found.name,
        changes=_changes(found),
        options_added=list(found.added),
        options_removed=list(found.removed),
        options_changed=[OptionChange(name=each.name, changes=_changes(each)) for each in found.changed],
    )


def _changes(found: differences.Difference) -> list[Change]:
    return [
        Change(field=change.field, before=_json(change.before), after=_json(change.after))
        for change in found.changes
    ]


def _json(value: object) -> JSON | None:
    return None if value is None else JSON(value)
