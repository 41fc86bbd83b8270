"""When retries are due: found by an index, for it is asked for at every look at the queue"""

import sqlalchemy as sa
from alembic import op

revision = '0021'
down_revision = '0020'

WHERE = "state = 'QUEUED' AND not_before IS NOT NULL"


def upgrade() -> None:
    op.create_index(
        'ix_jobs_due',
        'jobs',
        ['backend_id', 'not_before'],
        unique=False,
        sqlite_where=sa.text(WHERE),
        postgresql_where=sa.text(WHERE),
    )
