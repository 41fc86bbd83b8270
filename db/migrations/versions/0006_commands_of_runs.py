"""What deleting, editing, repeating and expecting runs, and external runs, need"""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'


def upgrade() -> None:
    op.add_column('runs', sa.Column('based_on', sa.LargeBinary(length=16), nullable=True))
    op.add_column('runs', sa.Column('overrides', sa.Text(), nullable=True))
    op.add_column('runs', sa.Column('edition', sa.Integer(), nullable=False, server_default='0'))
    op.add_column('runs', sa.Column('deleted_at', sa.BigInteger(), nullable=True))
    if op.get_context().dialect.name == 'postgresql':
        op.alter_column('runs', 'edition', server_default=None)
    for column in ('retry_of', 'deleted_at'):
        where = sa.text(f'{column} IS NOT NULL')
        op.create_index(f'ix_runs_{column}', 'runs', [column], sqlite_where=where, postgresql_where=where)
    op.add_column('jobs', sa.Column('pipeline_id', sa.LargeBinary(length=16), nullable=True))
    op.execute('UPDATE jobs SET pipeline_id = (SELECT pipeline_id FROM runs WHERE runs.id = jobs.run_id)')
    where = sa.text("state = 'SUCCEEDED' AND reused_from IS NULL")
    op.create_index(
        'ix_jobs_succeeded', 'jobs', ['pipeline_id', 'step', 'id'], sqlite_where=where, postgresql_where=where
    )
    for table, column in (
        ('series', 'job_id'), ('series', 'attempt_id'), ('run_metrics', 'job_id'), ('files', 'derived_from')
    ):
        op.create_index(f'ix_{table}_{column}', table, [column])
    op.create_table('externals',
    sa.Column('run_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('job_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('attempt_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('heartbeat_seconds', sa.Float(), nullable=False),
    sa.Column('heard_at', sa.BigInteger(), nullable=False),
    sa.Column('expires_at', sa.BigInteger(), nullable=True),
    sa.ForeignKeyConstraint(['attempt_id'], ['attempts.id'], name=op.f('fk_externals_attempt_id')),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_externals_job_id')),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_externals_run_id')),
    sa.PrimaryKeyConstraint('run_id', name=op.f('pk_externals')),
    sa.UniqueConstraint('job_id', name=op.f('uq_externals_job_id')),
    sa.UniqueConstraint('attempt_id', name=op.f('uq_externals_attempt_id'))
    )
    where = sa.text('expires_at IS NOT NULL')
    op.create_index('ix_externals_expires_at', 'externals', ['expires_at'], sqlite_where=where, postgresql_where=where)
