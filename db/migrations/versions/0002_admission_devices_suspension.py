"""Admission by kind, GPUs by worker, suspension"""

import sqlalchemy as sa
from alembic import op

revision = '0002'
down_revision = '0001'


def upgrade() -> None:
    op.add_column('backends', sa.Column('devices', sa.Text(), nullable=True))
    op.add_column('backends', sa.Column('enforced', sa.Text(), nullable=True))
    op.add_column('backends', sa.Column('place_job_id', sa.LargeBinary(length=16), nullable=True))
    op.add_column('backends', sa.Column('place_passes', sa.Integer(), nullable=False, server_default='0'))
    op.add_column('backends', sa.Column('place_since', sa.BigInteger(), nullable=True))
    op.add_column('workers', sa.Column('devices', sa.Text(), nullable=True))
    op.add_column('attempts', sa.Column('suspended_at', sa.BigInteger(), nullable=True))
    op.add_column('attempts', sa.Column('suspended_seconds', sa.Float(), nullable=False, server_default='0'))
    op.add_column('runs', sa.Column('suspended_at', sa.BigInteger(), nullable=True))
    # Jobs that wait now are one kind: each is looked at in its turn.
    op.add_column('jobs', sa.Column('kind', sa.BigInteger(), nullable=False, server_default='0'))
    op.add_column('jobs', sa.Column('suspended', sa.Boolean(), nullable=False, server_default=sa.false()))
    op.drop_index('ix_jobs_claim', 'jobs')
    op.create_index('ix_jobs_claim', 'jobs', ['backend_id', 'kind', sa.text('priority DESC'), 'id'], sqlite_where=sa.text("state = 'QUEUED' AND suspended = 0"), postgresql_where=sa.text("state = 'QUEUED' AND NOT suspended"))
