"""Points below a floor of their own: what was thinned is no gap in states, and lines that are gone have gaps"""

import sqlalchemy as sa
from alembic import op

revision = '0022'
down_revision = '0021'

APART = """
    UPDATE feeds
    SET floor = 0,
        points_floor = coalesce(
            (SELECT max(s.thinned_seq) FROM series s JOIN runs r ON r.id = s.run_id
             WHERE r.feed_id = feeds.id AND s.thinned > 0), 0)
    WHERE floor > 0 AND EXISTS (SELECT 1 FROM runs r WHERE r.feed_id = feeds.id AND r.deleted_at IS NULL)
"""


def upgrade() -> None:
    op.add_column('feeds', sa.Column('points_floor', sa.BigInteger(), nullable=False, server_default='0'))
    op.execute(APART)
