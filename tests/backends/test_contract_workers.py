"""What base.py promises of attempts of several workers, asked of every kind of backend, as in test_contract.py."""

import pytest

from backends.base import Backend, EndReason, Stream, WorkerStarted
from tests.backends.grounds import Ground, Witness, lines, pieces, rejected
from tests.backends.kinds import REAL


async def test_workers_know_each_other_by_rank(ground: Ground, adapter: Backend) -> None:
    names = "RANK WORLD_SIZE MASTER_ADDR MASTER_PORT RUNGRAPH_HOSTS"
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.script(f"show {names}", workers=3))
        ended = await witness.ended(handle)
    assert (ended.reason, ended.exit_codes) == (EndReason.COMPLETED, {0: 0, 1: 0, 2: 0})
    assert {each.rank for each in witness.of(WorkerStarted, handle["name"])} == {0, 1, 2}
    told = [lines(await pieces(adapter, handle, rank=rank), Stream.STDOUT)[0].split() for rank in range(3)]
    assert [(rank, size) for rank, size, *_ in told] == [(b"0", b"3"), (b"1", b"3"), (b"2", b"3")]
    assert len({tuple(rest) for _, _, *rest in told}) == 1
    assert told[0][4].count(b",") == 2


async def test_a_worker_that_fails_ends_the_others(ground: Ground, adapter: Backend) -> None:
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.script("rank 1 exit 5", "hang", workers=2))
        ended = await witness.ended(handle)
    assert (ended.reason, ended.exit_code, ended.exit_codes[1]) == (EndReason.EXIT_CODE, 5, 5)
    assert ended.exit_codes[0] != 0
    assert ended.message == "rank 1: exited with 5"


ALLREDUCE = """
import os, socket, time
rank, size = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
address = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
if rank == 0:
    server = socket.create_server(address)
    peers = [server.accept()[0] for _ in range(size - 1)]
    total = rank + sum(peer.recv(1)[0] for peer in peers)
    for peer in peers: peer.send(bytes([total]))
else:
    while True:
        try: mine = socket.create_connection(address); break
        except ConnectionRefusedError: time.sleep(0.01)
    mine.send(bytes([rank]))
    total = mine.recv(1)[0]
print(total)
"""


@REAL
async def test_workers_meet_at_the_address_they_are_told(ground: Ground, adapter: Backend) -> None:
    async with Witness(adapter) as witness:
        handles = [await adapter.launch(ground.job(ALLREDUCE, workers=4)) for _ in range(2)]
        for handle in handles:
            assert (await witness.ended(handle)).reason == EndReason.COMPLETED
            for rank in range(4):
                assert lines(await pieces(adapter, handle, rank=rank), Stream.STDOUT) == [b"6"]


async def test_all_workers_start_or_none(ground: Ground, adapter: Backend) -> None:
    async with Witness(adapter) as witness:
        job = ground.command("nowhere", workers=3)
        assert "nowhere" in await rejected(adapter, witness, job)
    assert not witness.of(WorkerStarted, job.name)


@pytest.mark.parametrize("ground", ["local"], indirect=True)
async def test_workers_are_given_their_gpus(ground: Ground, adapter: Backend) -> None:
    code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    async with Witness(adapter) as witness:
        handle = await adapter.launch(ground.job(code, workers=2, devices=((3,), (1,))))
        assert (await witness.ended(handle)).reason == EndReason.COMPLETED
    for rank in range(2):
        assert lines(await pieces(adapter, handle, rank=rank), Stream.STDOUT) == [b"3,1"]
