"""Data sources, what was fetched from them, and runs that read them for themselves"""

import sqlalchemy as sa
from alembic import op

revision = '0012'
down_revision = '0011'


def upgrade() -> None:
    op.create_table('data_sources',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('project_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('secret', sa.Text(), nullable=True),
    sa.Column('description', sa.Text(), nullable=False),
    sa.Column('created_by', sa.LargeBinary(length=16), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('deleted_at', sa.BigInteger(), nullable=True),
    sa.ForeignKeyConstraint(['created_by'], ['users.id'], name=op.f('fk_data_sources_created_by')),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_data_sources_project_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_data_sources'))
    )
    op.create_index('ix_data_sources_name', 'data_sources', ['project_id', 'name'], unique=True,
        sqlite_where=sa.text('deleted_at IS NULL'), postgresql_where=sa.text('deleted_at IS NULL'))
    op.create_table('data_fetches',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('project_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('source_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('secret', sa.Text(), nullable=True),
    sa.Column('limit_bytes', sa.BigInteger(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('message', sa.Text(), nullable=True),
    sa.Column('done_bytes', sa.BigInteger(), nullable=False),
    sa.Column('total_bytes', sa.BigInteger(), nullable=True),
    sa.Column('file_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('created_by', sa.LargeBinary(length=16), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("state IN ('FETCHING', 'READY', 'FAILED')", name=op.f('ck_data_fetches_state')),
    sa.ForeignKeyConstraint(['created_by'], ['users.id'], name=op.f('fk_data_fetches_created_by')),
    sa.ForeignKeyConstraint(['file_id'], ['files.id'], name=op.f('fk_data_fetches_file_id')),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_data_fetches_project_id')),
    sa.ForeignKeyConstraint(['source_id'], ['data_sources.id'], name=op.f('fk_data_fetches_source_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_data_fetches'))
    )
    op.create_index('ix_data_fetches_fetching', 'data_fetches', ['id'], unique=False,
        sqlite_where=sa.text("state = 'FETCHING'"), postgresql_where=sa.text("state = 'FETCHING'"))
    op.create_index('ix_data_fetches_source', 'data_fetches', ['source_id', 'id'], unique=False)
    op.create_index(op.f('ix_data_fetches_file_id'), 'data_fetches', ['file_id'], unique=False)
    op.create_table('run_sources',
    sa.Column('run_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('source_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('secret', sa.Text(), nullable=True),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_run_sources_run_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['source_id'], ['data_sources.id'], name=op.f('fk_run_sources_source_id')),
    sa.PrimaryKeyConstraint('run_id', 'position', name=op.f('pk_run_sources'))
    )
    op.create_index(op.f('ix_run_sources_source_id'), 'run_sources', ['source_id'], unique=False)
