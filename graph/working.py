"""What works by itself, in a server or alone (`rungraph supervise`): supervisors, and whatever is done beside them."""

from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from backends.aging import Aging
from backends.blobs import Blobs
from backends.compactor import Compactor
from backends.hand import Hand
from backends.installing import Fetcher
from backends.janitor import Janitor
from backends.outside import Policy
from backends.profiling import Profiler
from backends.retrieving import Retriever
from backends.scheduler import Scheduler
from backends.vault import Vault, new_key
from db import backends, ids, leases, projects, schema, users
from db.bus import Bus
from db.database import Database
from graph.credentials import Credentials, keep
from graph.settings import Settings
from graph.supervising import backends_of, supervise


@dataclass(frozen=True, slots=True)
class Opened:
    """What was opened that requests work with, too. `backend` is where runs go that name none."""

    database: Database
    blobs: Blobs
    credentials: Credentials
    vault: Vault
    backend: str


def close_home(home: Path) -> None:
    """Make the home, and keep others out of it: the database and the jobs' folders hold what is theirs alone."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(PermissionError):  # somebody else's folder that was given to us, a volume for example
        home.chmod(0o700)


_LOCKS_OUT = """\
rungraph: another server uses this database with another administrator's token, and this one would lock it out;
rungraph: copy token, secret and secrets.key from its home to {home}, or wait 15 seconds if it was killed"""


async def open_all(stack: AsyncExitStack, settings: Settings, url: str, own_url: str) -> Opened:
    """Open database, bus and everything that works by itself.

    `url` is where jobs reach a server, `own_url` where this process reaches one.
    """
    close_home(settings.home)
    configured = backends_of(settings)
    token = keep(settings.home / "token")
    secret = keep(settings.home / "secret")
    await _migrate(settings)
    bus = Bus(settings.broadcast_url)
    await bus.open()
    stack.push_async_callback(bus.close)
    database = Database(settings.database, bus=bus)
    stack.push_async_callback(database.close)
    host = _host_name(settings.home)
    async with database.begin() as session:
        await projects.ensure_default(session)
        if not await users.has_administrator(session, token) and await leases.others(session, host):
            raise SystemExit(_LOCKS_OUT.format(home=settings.home))
        await users.ensure_administrator(session, token)
    credentials = Credentials(database, secret.encode())
    hand = Hand()
    stack.push_async_callback(hand.close)
    blobs = Blobs(settings.files, hand.do)
    vault = Vault(keep(settings.home / "secrets.key", make=new_key()))
    fetcher = Fetcher(database, settings.home / "modules", blobs, host)
    await fetcher.recover()
    supervisors = [
        supervise(
            made,
            settings,
            database,
            blobs=blobs,
            credentials=credentials,
            vault=vault,
            url=url,
            own_url=own_url,
            host=host,
            fetching=fetcher.ongoing,
        )
        for made in configured
    ]
    for supervisor in supervisors:
        await supervisor.open()
        stack.push_async_callback(supervisor.close)
    async with database.begin() as session:
        await backends.retire(session, [made.declared.name for made in configured])
    fetcher.open(supervisors[0].backend_id, supervisors[0].host)
    stack.push_async_callback(fetcher.close)
    await _keep_house(stack, settings, database, blobs, vault, host)
    return Opened(database, blobs, credentials, vault, configured[0].declared.name)


async def _keep_house(
    stack: AsyncExitStack, settings: Settings, database: Database, blobs: Blobs, vault: Vault, host: str
) -> None:
    """What is no backend's: any number of replicas may do it, and each piece is done once."""
    profiler = Profiler(database, blobs)
    profiler.open()
    stack.push_async_callback(profiler.close)
    policy = Policy(tuple(settings.source_roots), frozenset(host.lower() for host in settings.source_hosts))
    retriever = Retriever(database, blobs, vault, policy, host)
    retriever.open()
    stack.push_async_callback(retriever.close)
    janitor = Janitor(database, blobs)
    janitor.open()
    stack.push_async_callback(janitor.close)
    compactor = Compactor(database)
    compactor.open()
    stack.push_async_callback(compactor.close)
    aging = Aging(database)
    aging.open()
    stack.push_async_callback(aging.close)
    scheduler = Scheduler(database)
    scheduler.open()
    stack.push_async_callback(scheduler.close)


async def _migrate(settings: Settings) -> None:
    try:
        if await schema.is_current(settings.database):
            return
    except OSError as error:
        raise SystemExit(
            f"rungraph: RUNGRAPH_DATABASE_URL: the database cannot be reached: {error}"
        ) from error
    if not settings.database.startswith("sqlite"):
        raise SystemExit("rungraph: the database is not up to date: run `rungraph migrate`")
    await schema.upgrade(settings.database)


def _host_name(home: Path) -> str:
    """This machine and home: two servers with homes of their own on one database are two hosts."""
    return keep(home / "host", make=f"host-{ids.new().hex()}")
