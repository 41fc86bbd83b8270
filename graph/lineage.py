"""Lineage through the API: a bounded graph around anything that data went through."""

import asyncio
from typing import Annotated

import strawberry

from db import ids
from db.errors import NotFound
from db.lineage import Course, Relation, walk
from graph import enums, nodes
from graph.context import Info
from graph.nodes import Node, public

enums.show(
    Course,
    "Which way a walk goes.",
    name="LineageDirection",
    UPSTREAM="To what a thing was made from.",
    DOWNSTREAM="To what was made from it.",
    BOTH="Both ways.",
)
enums.show(
    Relation,
    "How one thing leads to another.",
    name="LineageRelation",
    FETCHED="A data source was copied into a file.",
    DERIVED="A file was made from another.",
    MEMBER="A file is a part of a dataset's version.",
    GIVEN="It is an input of a run.",
    STEP="A run consists of a job.",
    READ="A job got a file.",
    MADE="A job left a file.",
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
        id: Annotated[
            strawberry.ID,
            strawberry.argument(description="Of a data source, file, version of a dataset, run or job."),
        ],
        direction: Annotated[
            Course | None, strawberry.argument(description="Both ways when not given.")
        ] = None,
        depth: Annotated[int, strawberry.argument(description="At most so many steps away, 1 to 20.")] = 5,
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
