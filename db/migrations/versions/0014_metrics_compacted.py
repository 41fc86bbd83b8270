"""Metrics compacted and summarised, kept for so many days: columns of chunks, picked points, what is settled"""

import sqlalchemy as sa
from alembic import op

revision = '0014'
down_revision = '0013'

SERIAL = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')


def upgrade() -> None:
    for name in ('summarised', 'thinned', 'thinned_seq'):
        op.add_column('series', sa.Column(name, sa.BigInteger(), nullable=False, server_default='0'))
    for name in ('end_seq', 'least_step', 'greatest_step', 'least_time', 'greatest_time'):
        op.add_column('metric_chunks', sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column('feeds', sa.Column('settled', sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index('ix_feeds_unsettled', 'feeds', ['id'],
    sqlite_where=sa.text('NOT settled'), postgresql_where=sa.text('NOT settled'))
    for name in ('metrics_days', 'logs_days'):
        op.add_column('projects', sa.Column(name, sa.Integer(), nullable=True))
    op.create_table('compactions',
    sa.Column('feed_id', SERIAL, nullable=False),
    sa.Column('version', sa.BigInteger(), nullable=False),
    sa.Column('seq', sa.BigInteger(), nullable=False),
    sa.Column('full_seq', sa.BigInteger(), nullable=False),
    sa.Column('windows', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['feed_id'], ['feeds.id'], name=op.f('fk_compactions_feed_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('feed_id', name=op.f('pk_compactions'))
    )
    op.create_table('metric_summaries',
    sa.Column('series_id', SERIAL, nullable=False),
    sa.Column('level', sa.Integer(), nullable=False),
    sa.Column('block', sa.Integer(), nullable=False),
    sa.Column('points', sa.Integer(), nullable=False),
    sa.Column('picks', sa.Integer(), nullable=False),
    sa.Column('least_step', sa.BigInteger(), nullable=False),
    sa.Column('greatest_step', sa.BigInteger(), nullable=False),
    sa.Column('least_time', sa.BigInteger(), nullable=False),
    sa.Column('greatest_time', sa.BigInteger(), nullable=False),
    sa.Column('positions', sa.LargeBinary(), nullable=False),
    sa.Column('steps', sa.LargeBinary(), nullable=False),
    sa.Column('times', sa.LargeBinary(), nullable=False),
    sa.Column('vals', sa.LargeBinary(), nullable=False),
    sa.ForeignKeyConstraint(['series_id'], ['series.id'], name=op.f('fk_metric_summaries_series_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('series_id', 'level', 'block', name=op.f('pk_metric_summaries'))
    )
    if op.get_context().dialect.name == 'postgresql':
        # Numbers compress badly, and their compression takes longer than reading them.
        for table in ('metric_chunks', 'metric_summaries'):
            for name in ('steps', 'times', 'vals'):
                op.execute(f'ALTER TABLE {table} ALTER COLUMN {name} SET STORAGE EXTERNAL')
