"""Leases: one holder an epoch by the database's clock, and no write of a former one, however they interleave."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError

from db import attempts, backends, claims, columns, ids, leases
from db.backends import Backend
from db.database import Database, is_lost
from db.leases import LEASE, Supervisor
from tests.db.interleaving import until_somebody_waits
from tests.db.world import HOST, World, few

REPLICAS = ("a", "b", "c")
ACTIONS = ("take", "take again", "renew", "run out", "release", "write", "write")


async def _take(database: Database, name: str, holder: str, *, again: bool = True) -> Supervisor | None:
    async with database.begin() as session:
        return await leases.take(session, name, holder, again=again)


async def _run_out(database: Database, name: str) -> None:
    """Have the time pass."""
    async with database.begin() as session:
        late = update(Supervisor).where(Supervisor.name == name)
        await session.execute(late.values(expires_at=columns.clock(timedelta(seconds=-1))))


async def test_the_databases_clock_is_the_present_moment(database: Database) -> None:
    async with database.read() as session:
        told = await session.scalar(select(columns.clock()))
        later = await session.scalar(select(columns.clock(LEASE)))
    assert abs(told - columns.now()) < timedelta(seconds=5)
    assert abs(later - told - LEASE) < timedelta(seconds=5)


async def test_a_lease_is_taken_when_it_has_run_out_or_was_left_and_not_before(database: Database) -> None:
    first = await _take(database, "engine", "a")
    assert first is not None and first.epoch == 1
    assert await _take(database, "engine", "b") is None
    async with database.read() as session:
        assert not await leases.is_free(session, "engine")
        assert await leases.others(session, "b") and not await leases.others(session, "a")
    await _run_out(database, "engine")
    second = await _take(database, "engine", "b")
    assert second is not None and second.epoch == 2
    async with database.begin() as session:
        assert not await leases.renew(session, first)
        await leases.release(session, first)
    async with database.begin() as session:
        assert await leases.renew(session, second)
        await leases.release(session, second)
    async with database.read() as session:
        assert await leases.is_free(session, "engine")
    third = await _take(database, "engine", "c")
    assert third is not None and third.epoch == 3


async def test_a_replica_succeeds_its_own_last_life_at_once_and_within_a_life_waits(
    database: Database,
) -> None:
    first = await _take(database, "engine", "a", again=False)
    assert await _take(database, "engine", "a") is None
    second = await _take(database, "engine", "a", again=False)
    assert first is not None and second is not None and second.epoch == first.epoch + 1


async def _play(database: Database, acts: Sequence[tuple[str, str]]) -> None:
    name = f"engine-{ids.new().hex()}"
    held: dict[str, Supervisor] = {}
    epoch, holder, free = 0, "", True
    for replica, act in acts:
        lease = held.get(replica)
        if act in ("take", "take again"):
            again = act == "take again"
            taken = await _take(database, name, replica, again=again)
            assert (taken is not None) == (free or (not again and holder == replica))
            if taken is not None:
                epoch, holder, free = epoch + 1, replica, False
                assert (taken.epoch, taken.holder) == (epoch, replica)
                held[replica] = taken
        elif act == "run out":
            await _run_out(database, name)
            free = True
        elif lease is not None:
            ours = lease.epoch == epoch
            async with database.begin() as session:
                if act == "write":
                    assert await leases.hold(session, lease) == ours
                elif act == "renew":
                    assert await leases.renew(session, lease) == ours
                    free = free and not ours
                else:
                    await leases.release(session, lease)
                    free = free or ours


ACTS = st.lists(st.tuples(st.sampled_from(REPLICAS), st.sampled_from(ACTIONS)), max_size=25)


@few
@given(ACTS)
async def test_an_epoch_has_one_holder_who_alone_writes(
    database: Database, acts: list[tuple[str, str]]
) -> None:
    await _play(database, acts)


async def test_of_many_that_take_at_once_one_succeeds(database: Database) -> None:
    taken = await asyncio.gather(*(_take(database, "engine", name) for name in "abcdefgh"))
    assert len([lease for lease in taken if lease is not None]) == 1


async def test_who_takes_a_lease_waits_for_what_its_holder_is_writing(postgresql: Database) -> None:
    former = await _take(postgresql, "engine", "a")
    assert former is not None
    await _run_out(postgresql, "engine")
    async with postgresql.begin() as session:
        assert await leases.hold(session, former)
        taking = asyncio.create_task(_take(postgresql, "engine", "b"))
        await until_somebody_waits(postgresql)
        assert not taking.done()
    successor = await taking
    assert successor is not None and successor.epoch == former.epoch + 1


async def test_who_has_lost_a_lease_meanwhile_finds_out_before_it_writes(postgresql: Database) -> None:
    former = await _take(postgresql, "engine", "a")
    assert former is not None
    await _run_out(postgresql, "engine")

    async def holds() -> bool:
        async with postgresql.begin() as session:
            return await leases.hold(session, former)

    async with postgresql.begin() as session:
        assert await leases.take(session, "engine", "b", again=True) is not None
        holding = asyncio.create_task(holds())
        await until_somebody_waits(postgresql)
    assert not await holding


async def test_a_holder_that_stands_still_while_it_writes_loses_that_transaction(
    postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = func.set_config("idle_in_transaction_session_timeout", "100", True)
    monkeypatch.setattr(leases, "_HOLD_POSTGRESQL", leases._HOLD.add_columns(soon))
    former = await _take(postgresql, "engine", "a")
    assert former is not None
    await _run_out(postgresql, "engine")
    with pytest.raises(DBAPIError) as ended:
        async with postgresql.begin() as session:
            assert await leases.hold(session, former)
            assert await _take(postgresql, "engine", "b") is not None
            await session.execute(select(Supervisor.id))
    assert is_lost(ended.value)


async def test_a_lease_is_renewed_while_transactions_hold_it_and_taken_when_they_end(
    postgresql: Database,
) -> None:
    lease = await _take(postgresql, "engine", "a")
    assert lease is not None
    async with postgresql.begin() as session:
        assert await leases.hold(session, lease)
        async with asyncio.timeout(5.0), postgresql.begin() as other:
            assert await leases.renew(other, lease)
        await _run_out(postgresql, "engine")
        taking = asyncio.create_task(_take(postgresql, "engine", "b"))
        await until_somebody_waits(postgresql)
        assert not taking.done()
    assert await taking is not None


async def test_a_former_holder_claims_nothing_and_the_next_one_adopts_what_it_had(database: Database) -> None:
    world = await World.make(database)
    run_id = await world.start({"a": (), "b": ()})
    (step,) = await world.claim(most=1)
    async with database.begin() as session:
        successor = await leases.take(session, HOST, HOST)
        assert successor is not None
        adopted = await attempts.adopt(session, world.backend.id, HOST, successor.id, successor.epoch)
    assert len(adopted) == 1
    before = await world.states(run_id)
    async with database.begin() as session:
        assert await claims.claim(session, world.supervisor, world.backend.id, HOST) == []
    assert await world.states(run_id) == before
    async with database.begin() as session:
        assert len(await claims.claim(session, successor, world.backend.id, HOST)) == 1
    assert step in before


async def test_a_backend_is_retired_when_nobody_has_it_and_comes_back_when_it_is_declared(
    database: Database,
) -> None:
    world = await World.make(database)

    async def is_retired(names: Sequence[str]) -> bool:
        async with database.begin() as session:
            await backends.retire(session, names)
        async with database.read() as session:
            (row,) = await backends.list_all(session)
        return row.retired_at is not None

    lease = await _take(database, f"local@{HOST}", HOST)
    assert lease is not None
    assert not await is_retired(["local"])
    assert not await is_retired(["other"])  # somebody drives it
    await _run_out(database, f"local@{HOST}")
    assert await is_retired(["other"])
    async with database.begin() as session:
        made = (await session.all(Backend, select(Backend)))[0]
        values = {name: getattr(made, name) for name in ("name", "kind", "scope", "config")}
        amounts = {name: getattr(made, name) for name in ("slots", "cpus", "memory_bytes", "gpus")}
        assert await backends.declare(session, {**values, **amounts}) == world.backend.id
    assert not await is_retired(["local"])
