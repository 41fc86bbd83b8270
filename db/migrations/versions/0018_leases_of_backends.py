"""Leases of backends: which replica holds each, and backends that nobody has configured any more"""

import sqlalchemy as sa
from alembic import op

revision = '0018'
down_revision = '0017'


def upgrade() -> None:
    op.add_column('supervisors', sa.Column('holder', sa.Text(), nullable=False, server_default=''))
    op.add_column('backends', sa.Column('retired_at', sa.BigInteger(), nullable=True))
