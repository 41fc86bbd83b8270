"""The schema: the features' parts put together. `python -m graph.schema` prints, checks or writes the SDL."""

import argparse
import difflib
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

import strawberry
from graphql import (
    GraphQLEnumType,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    get_named_type,
)
from strawberry.extensions import (
    AddValidationRules,
    MaxTokensLimiter,
    SchemaExtension,
)
from strawberry.schema.config import StrawberryConfig

from graph import cost, remembered
from graph.aggregates import AggregateQuery
from graph.backends import BackendQuery
from graph.changes import RunListSubscription
from graph.comparisons import ComparisonQuery
from graph.context import Info
from graph.data_fetches import DataFetchMutation, DataFetchSubscription
from graph.data_sources import DataSourceMutation, DataSourceQuery
from graph.datasets import DatasetMutation, DatasetQuery
from graph.deletions import DeletionMutation
from graph.documents import DocumentMutation
from graph.edits import EditMutation
from graph.errors import Masking
from graph.execution import Execution
from graph.externals import ExternalMutation
from graph.files import FileMutation, FileQuery
from graph.forecasts import ForecastQuery
from graph.functions import FunctionQuery
from graph.installations import CheckMutation, InstallationMutation
from graph.jobs import Attempt, JobQuery, Worker
from graph.limits import LimitMutation, LimitQuery
from graph.lineage import LineageQuery
from graph.listing import RunListQuery
from graph.metrics import MetricQuery
from graph.module_versions import VersionMutation, VersionSubscription
from graph.modules import ModuleMutation, ModuleQuery
from graph.nodes import NodeQuery
from graph.pipelines import PipelineMutation, PipelineQuery
from graph.remembered import Judging, Parsing, Remembering
from graph.reporting import MetricMutation
from graph.retention import RetentionMutation
from graph.retries import RetryMutation
from graph.runs import RunQuery
from graph.scalars import SCALARS
from graph.schedules import ScheduleQuery
from graph.scheduling import ScheduleMutation
from graph.secrets import SecretMutation, SecretQuery
from graph.starts import StartMutation
from graph.suspensions import SuspensionMutation
from graph.users import UserMutation, UserQuery
from graph.views import ViewMutation, ViewQuery
from graph.watching import RunSubscription

SDL = Path(__file__).parent.parent / "schema.graphql"


class Naming(SchemaExtension):
    """Refuses several operations without a name for the one that is meant: strawberry takes the first."""

    def on_validate(self) -> Iterator[None]:
        """Add to what validation has found."""
        asked = self.execution_context
        document = asked.graphql_document
        operations = (
            [d for d in document.definitions if isinstance(d, OperationDefinitionNode)] if document else []
        )
        if len(operations) > 1 and asked._provided_operation_name is None:
            error = GraphQLError("operationName must say which of these operations is meant")
            asked.pre_execution_errors = [*(asked.pre_execution_errors or ()), error]
        yield


@strawberry.type(description="The server.")
class Server:
    """The server."""

    version: str = strawberry.field(description="Of the software.")
    now: datetime = strawberry.field(description="Its clock.")


@strawberry.type(description="Reading.")
class Query(
    NodeQuery,
    UserQuery,
    BackendQuery,
    LimitQuery,
    ModuleQuery,
    FunctionQuery,
    PipelineQuery,
    RunQuery,
    RunListQuery,
    ViewQuery,
    ComparisonQuery,
    AggregateQuery,
    JobQuery,
    ForecastQuery,
    FileQuery,
    DatasetQuery,
    DataSourceQuery,
    LineageQuery,
    SecretQuery,
    MetricQuery,
    ScheduleQuery,
):
    """Reading."""

    @strawberry.field(description="The server that answers.")
    def server(self, info: Info) -> Server:
        return Server(version=version("rungraph-server"), now=datetime.now(UTC))


@strawberry.type(description="Changing. A refusal is data: `errors` of the payload.")
class Mutation(
    UserMutation,
    InstallationMutation,
    CheckMutation,
    VersionMutation,
    ModuleMutation,
    PipelineMutation,
    StartMutation,
    SuspensionMutation,
    RetryMutation,
    RetentionMutation,
    EditMutation,
    ViewMutation,
    DocumentMutation,
    DeletionMutation,
    ExternalMutation,
    FileMutation,
    DatasetMutation,
    DataSourceMutation,
    DataFetchMutation,
    MetricMutation,
    ScheduleMutation,
    SecretMutation,
    LimitMutation,
):
    """Changing."""


@strawberry.type(description="Following. Resume after the last `seq` you have seen.")
class Subscription(RunSubscription, RunListSubscription, VersionSubscription, DataFetchSubscription):
    """Following."""


@cache
def build(*, sorted: bool = False, execution: type[Execution] = Execution) -> strawberry.Schema:
    """The schema with its execution: typed columns, caches, limits, masked faults.

    A sorted one is for printing alone: sorting loses how enumerations are serialized.
    """
    made = strawberry.Schema(
        Query,
        Mutation,
        Subscription,
        types=[Attempt, Worker],
        execution_context_class=execution,
        config=StrawberryConfig(scalar_map=SCALARS, sort_schema=sorted, info_class=Info),
        extensions=[
            lambda: AddValidationRules(list(cost.RULES)),
            lambda: MaxTokensLimiter(max_token_count=cost.TOKENS),
            lambda: Parsing(maxsize=remembered.MOST),
            lambda: Judging(maxsize=remembered.MOST),
            Naming,
            Remembering,
            Masking,
        ],
    )
    _describe(made._schema)
    return made


def _describe(schema: GraphQLSchema) -> None:
    """Tell an argument that has no words of its own by those of its type: `input`, `filter`, `sort`."""
    for each in schema.type_map.values():
        if isinstance(each, GraphQLObjectType):
            for argument in (one for field in each.fields.values() for one in field.args.values()):
                kind = get_named_type(argument.type)
                if argument.description is None and isinstance(
                    kind, GraphQLInputObjectType | GraphQLEnumType
                ):
                    argument.description = kind.description


def sdl() -> str:
    """The contract, in one order whatever order the code has."""
    return build(sorted=True).as_str() + "\n"


def main() -> int:
    """Print the SDL; with --check compare it with schema.graphql, with --write write it there."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    made = sdl()
    if asked.write:
        SDL.write_text(made)
    elif asked.check:
        kept = SDL.read_text()
        lines = difflib.unified_diff(
            kept.splitlines(), made.splitlines(), "schema.graphql", "the code", lineterm=""
        )
        sys.stderr.writelines(f"{line}\n" for line in lines)
        return int(kept != made)
    else:
        sys.stdout.write(made)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
