"""Limits of projects and tags"""

import sqlalchemy as sa
from alembic import op

revision = '0019'
down_revision = '0018'


def upgrade() -> None:
    op.create_table(
        'limits',
        sa.Column('id', sa.LargeBinary(length=16), nullable=False),
        sa.Column('scope', sa.Text(), nullable=False),
        sa.Column('project_id', sa.LargeBinary(length=16), nullable=True),
        sa.Column('backend_id', sa.LargeBinary(length=16), nullable=True),
        sa.Column('tag_name', sa.Text(), nullable=True),
        sa.Column('tag_value', sa.Text(), nullable=True),
        sa.Column('jobs', sa.BigInteger(), nullable=True),
        sa.Column('slots', sa.BigInteger(), nullable=True),
        sa.Column('cpus', sa.Float(), nullable=True),
        sa.Column('memory_bytes', sa.BigInteger(), nullable=True),
        sa.Column('gpus', sa.BigInteger(), nullable=True),
        sa.Column('place_job_id', sa.LargeBinary(length=16), nullable=True),
        sa.Column('place_passes', sa.Integer(), nullable=False),
        sa.Column('place_since', sa.BigInteger(), nullable=True),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.Column('updated_at', sa.BigInteger(), nullable=False),
        sa.Column('updated_by', sa.LargeBinary(length=16), nullable=True),
        sa.ForeignKeyConstraint(['backend_id'], ['backends.id'], name='fk_limits_backend_id'),
        sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name='fk_limits_project_id'),
        sa.ForeignKeyConstraint(['updated_by'], ['users.id'], name='fk_limits_updated_by'),
        sa.PrimaryKeyConstraint('id', name='pk_limits'),
        sa.UniqueConstraint('scope', name='uq_limits_scope'),
    )
