"""Retrying by the reason of an end: what each job is granted, and what its run asked for"""

import sqlalchemy as sa
from alembic import op

revision = '0020'
down_revision = '0019'


def upgrade() -> None:
    op.add_column('jobs', sa.Column('retry', sa.Text(), nullable=True))
    op.add_column('runs', sa.Column('retry', sa.Text(), nullable=True))
