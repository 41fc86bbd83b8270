"""Live and archived runs apart: an index of both tempted SQLite to walk past all archived ones"""

from alembic import op

revision = '0013'
down_revision = '0012'


def upgrade() -> None:
    op.drop_index('ix_runs_all', 'runs')
