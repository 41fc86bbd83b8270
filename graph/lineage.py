"""Lineage through the API: a bounded graph around anything that data went through."""

import asyncio

import strawberry

from db import ids
from db.errors import NotFound
from db.lineage import Course, Relation, walk
from graph import nodes
from graph.context import Info
from graph.nodes import Node, public

strawberry.enum(
    Course,
    name="LineageDirection",
    description="To what a thing was made from, to what was made from it, or both.",
)
strawberry.enum(
    Relation,
    name="LineageRelation",
    description="How one thing leads to another: a source was FETCHED into a file, a file is DERIVED into "
    "another, is a MEMBER of a dataset's version, is GIVEN to a run, a job is a STEP of it, READ or MADE a file.",
)


@strawberry.type(description="How one thing led to another.")
class LineageEdge:
    """An edge."""

    source: strawberry.ID = strawberry.field(name="from", description="What was there first.")
    target: strawberry.ID = strawberry.field(name="to", description="What came of it.")
    relation: Relation = strawberry.field(description="How.")


@strawberry.type(description="What a thing was made from and what was made from it.")
class Lineage:
    """A graph."""

    nodes: list[Node] = strawberry.field(
        description="Sources, files, versions of datasets, runs and jobs; the one asked for comes first."
    )
    edges: list[LineageEdge] = strawberry.field(description="Between these nodes.")
    truncated: bool = strawberry.field(
        description="Whether there is more: at most 500 nodes and 2,000 edges are told."
    )


@strawberry.type
class LineageQuery:
    """Asking where things come from."""

    @strawberry.field(
        description="What lies within `depth` steps (1 to 20) of a data source, file, version of a dataset, "
        "run or job, both ways unless a direction is given; null if there is no such thing."
    )
    async def lineage(
        self,
        info: Info,
        id: strawberry.ID,
        direction: Course | None = None,
        depth: int = 5,
    ) -> Lineage | None:
        context = info.context
        context.require_viewer()
        try:
            root = ids.split(id)
        except NotFound:
            return None
        async with context.database.read() as session:
            found = await walk(session, context.viewer, root, direction or Course.BOTH, depth)
        if found is None:
            return None
        keys = list(found.nodes)
        loaded = await asyncio.gather(*(nodes.get(context, kind, key) for kind, key in keys))
        there = {key: node for key, node in zip(keys, loaded, strict=True) if node is not None}
        return Lineage(
            nodes=list(there.values()),
            edges=[
                LineageEdge(source=public(*edge.source), target=public(*edge.target), relation=edge.relation)
                for edge in found.edges
                if edge.source in there and edge.target in there
            ],
            truncated=found.truncated,
        )
