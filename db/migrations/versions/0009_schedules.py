"""Schedules and what they fired"""

import sqlalchemy as sa
from alembic import op

revision = '0009'
down_revision = '0008'


def upgrade() -> None:
    op.create_table('schedules',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('project_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('pipeline_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('description', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('trigger', sa.Text(), nullable=False),
    sa.Column('after_pipeline_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('request', sa.Text(), nullable=False),
    sa.Column('catch_up', sa.Text(), nullable=False),
    sa.Column('overlap', sa.Text(), nullable=False),
    sa.Column('jitter_seconds', sa.Float(), nullable=False),
    sa.Column('starts_at', sa.BigInteger(), nullable=True),
    sa.Column('ends_at', sa.BigInteger(), nullable=True),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('next_at', sa.BigInteger(), nullable=True),
    sa.Column('wake_at', sa.BigInteger(), nullable=True),
    sa.Column('failures', sa.Integer(), nullable=False),
    sa.Column('last_error_code', sa.Text(), nullable=True),
    sa.Column('last_error', sa.Text(), nullable=True),
    sa.Column('last_fired_at', sa.BigInteger(), nullable=True),
    sa.Column('owner_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("catch_up IN ('SKIP', 'LAST', 'ALL')", name=op.f('ck_schedules_catch_up')),
    sa.CheckConstraint("kind IN ('CRON', 'INTERVAL', 'FILE', 'RUN')", name=op.f('ck_schedules_kind')),
    sa.CheckConstraint("overlap IN ('ALLOW', 'SKIP', 'CANCEL_PREVIOUS')", name=op.f('ck_schedules_overlap')),
    sa.CheckConstraint("state IN ('ACTIVE', 'PAUSED', 'FAILING', 'ENDED')", name=op.f('ck_schedules_state')),
    sa.ForeignKeyConstraint(['after_pipeline_id'], ['pipelines.id'], name=op.f('fk_schedules_after_pipeline_id')),
    sa.ForeignKeyConstraint(['owner_id'], ['users.id'], name=op.f('fk_schedules_owner_id')),
    sa.ForeignKeyConstraint(['pipeline_id'], ['pipelines.id'], name=op.f('fk_schedules_pipeline_id')),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_schedules_project_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_schedules')),
    sa.UniqueConstraint('project_id', 'name', name=op.f('uq_schedules_project_id_name'))
    )
    op.create_index(op.f('ix_schedules_after_pipeline_id'), 'schedules', ['after_pipeline_id'])
    op.create_index('ix_schedules_kind', 'schedules', ['project_id', 'kind'])
    op.create_index(op.f('ix_schedules_pipeline_id'), 'schedules', ['pipeline_id'])
    op.create_index('ix_schedules_wake', 'schedules', ['state', 'wake_at'])
    op.create_table('fires',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('schedule_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('outcome', sa.Text(), nullable=False),
    sa.Column('due_at', sa.BigInteger(), nullable=False),
    sa.Column('fired_at', sa.BigInteger(), nullable=True),
    sa.Column('run_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('file_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('after_run_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('error_code', sa.Text(), nullable=True),
    sa.Column('message', sa.Text(), nullable=True),
    sa.Column('chain', sa.Text(), nullable=False),
    sa.CheckConstraint("outcome IN ('PENDING', 'STARTED', 'SKIPPED', 'FAILED')", name=op.f('ck_fires_outcome')),
    sa.ForeignKeyConstraint(['schedule_id'], ['schedules.id'], name=op.f('fk_fires_schedule_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_fires')),
    sa.UniqueConstraint('schedule_id', 'key', name=op.f('uq_fires_schedule_id_key'))
    )
    op.create_index('ix_fires_due', 'fires', ['outcome', 'due_at'])
    op.create_index('ix_fires_list', 'fires', ['schedule_id', 'id'])
    op.create_index(op.f('ix_fires_run_id'), 'fires', ['run_id'])
