"""Points behind picks: from which of its chunks on a series is not summarised"""

import sqlalchemy as sa
from alembic import op

revision = '0016'
down_revision = '0015'


def upgrade() -> None:
    op.add_column('series', sa.Column('summarised_seq', sa.BigInteger(), nullable=False, server_default='0'))
