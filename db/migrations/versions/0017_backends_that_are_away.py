"""Backends that are away, what they have now, and what keeps an attempt from starting"""

import sqlalchemy as sa
from alembic import op

revision = '0017'
down_revision = '0016'


def upgrade() -> None:
    op.add_column('backends', sa.Column('available', sa.Text(), nullable=True))
    op.add_column('backends', sa.Column('unavailable_since', sa.BigInteger(), nullable=True))
    op.add_column('backends', sa.Column('last_error', sa.Text(), nullable=True))
    op.add_column('backends', sa.Column('last_error_at', sa.BigInteger(), nullable=True))
    op.add_column('attempts', sa.Column('waiting', sa.Text(), nullable=True))
