"""Pipelines that branch: selections, conditions, matrices, reuse; pipelines can be deleted"""

import sqlalchemy as sa
from alembic import op

revision = '0007'
down_revision = '0006'


def upgrade() -> None:
    op.add_column('steps', sa.Column('inputs', sa.Text(), nullable=True))
    op.add_column('steps', sa.Column('condition', sa.Text(), nullable=True))
    op.add_column('steps', sa.Column('matrix', sa.Text(), nullable=True))
    op.add_column('steps', sa.Column('cache', sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column('jobs', sa.Column('awaits', sa.Text(), nullable=True))
    op.add_column('jobs', sa.Column('inputs', sa.Text(), nullable=True))
    op.add_column('jobs', sa.Column('condition', sa.Text(), nullable=True))
    op.add_column('jobs', sa.Column('matrix', sa.Text(), nullable=True))
    op.add_column('jobs', sa.Column('cache', sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column('jobs', sa.Column('reuse_key', sa.LargeBinary(length=32), nullable=True))
    op.add_column('jobs', sa.Column('headlines', sa.Text(), nullable=True))
    op.add_column('job_files', sa.Column('name', sa.Text(), nullable=True))
    kept = sa.text("state = 'SUCCEEDED' AND reuse_key IS NOT NULL")
    op.create_index('ix_jobs_reuse', 'jobs', ['project_id', 'reuse_key', 'id'], sqlite_where=kept, postgresql_where=kept)
    # A name is free again once its pipeline is deleted. SQLite drops a constraint only with its table.
    with op.batch_alter_table('pipelines') as pipelines:
        pipelines.add_column(sa.Column('deleted_at', sa.BigInteger(), nullable=True))
        pipelines.drop_constraint('uq_pipelines_project_id_name', type_='unique')
    alive = sa.text('deleted_at IS NULL')
    op.create_index('ix_pipelines_name', 'pipelines', ['project_id', 'name'], unique=True, sqlite_where=alive, postgresql_where=alive)
