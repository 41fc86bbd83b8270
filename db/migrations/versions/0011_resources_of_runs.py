"""Resources that runs ask for in the place of their functions'"""

import sqlalchemy as sa
from alembic import op

revision = '0011'
down_revision = '0010'


def upgrade() -> None:
    op.add_column('runs', sa.Column('resources', sa.Text(), nullable=True))
