"""Logs with a head and a tail: where each chunk stands in what its worker printed"""

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0003'


def upgrade() -> None:
    op.add_column('workers', sa.Column('log_bytes', sa.BigInteger(), nullable=False, server_default='0'))
    op.add_column('log_chunks', sa.Column('first_line', sa.BigInteger(), nullable=False, server_default='1'))
    for name in ('start', 'size', 'dropped'):
        op.add_column('log_chunks', sa.Column(name, sa.BigInteger(), nullable=False, server_default='0'))
    op.create_index('ix_log_chunks_worker', 'log_chunks', ['job_id', 'attempt', 'rank', 'start'])
    op.create_index('ix_log_chunks_gap', 'log_chunks', ['job_id'],
    sqlite_where=sa.text('dropped > 0'), postgresql_where=sa.text('dropped > 0'))
