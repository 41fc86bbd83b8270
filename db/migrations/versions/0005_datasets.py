"""Datasets: named groups of files in versions, and which runs were given which"""

import sqlalchemy as sa
from alembic import op

revision = '0005'
down_revision = '0004'


def upgrade() -> None:
    op.create_table('datasets',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('project_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('description', sa.Text(), nullable=False),
    sa.Column('tags', sa.Text(), nullable=False),
    sa.Column('versions', sa.Integer(), nullable=False),
    sa.Column('created_by', sa.LargeBinary(length=16), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('deleted_at', sa.BigInteger(), nullable=True),
    sa.ForeignKeyConstraint(['created_by'], ['users.id'], name=op.f('fk_datasets_created_by')),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_datasets_project_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_datasets'))
    )
    op.create_index('ix_datasets_name', 'datasets', ['project_id', 'name'], unique=True,
        sqlite_where=sa.text('deleted_at IS NULL'), postgresql_where=sa.text('deleted_at IS NULL'))
    op.create_table('dataset_versions',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('project_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('dataset_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('digest', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('message', sa.Text(), nullable=True),
    sa.Column('files', sa.Integer(), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('rows', sa.BigInteger(), nullable=True),
    sa.Column('columns', sa.Text(), nullable=True),
    sa.Column('parts', sa.Text(), nullable=False),
    sa.Column('created_by', sa.LargeBinary(length=16), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("state IN ('PROFILING', 'READY', 'FAILED')", name=op.f('ck_dataset_versions_state')),
    sa.ForeignKeyConstraint(['created_by'], ['users.id'], name=op.f('fk_dataset_versions_created_by')),
    sa.ForeignKeyConstraint(['dataset_id'], ['datasets.id'], name=op.f('fk_dataset_versions_dataset_id')),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_dataset_versions_project_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_dataset_versions')),
    sa.UniqueConstraint('dataset_id', 'digest', name=op.f('uq_dataset_versions_dataset_id_digest')),
    sa.UniqueConstraint('dataset_id', 'number', name=op.f('uq_dataset_versions_dataset_id_number'))
    )
    op.create_index('ix_dataset_versions_profiling', 'dataset_versions', ['id'], unique=False,
        sqlite_where=sa.text("state = 'PROFILING'"), postgresql_where=sa.text("state = 'PROFILING'"))
    op.create_table('dataset_files',
    sa.Column('version_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('part', sa.Text(), nullable=False),
    sa.Column('file_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('rows', sa.BigInteger(), nullable=True),
    sa.Column('columns', sa.Text(), nullable=True),
    sa.Column('message', sa.Text(), nullable=True),
    sa.ForeignKeyConstraint(['file_id'], ['files.id'], name=op.f('fk_dataset_files_file_id')),
    sa.ForeignKeyConstraint(['version_id'], ['dataset_versions.id'], name=op.f('fk_dataset_files_version_id')),
    sa.PrimaryKeyConstraint('version_id', 'position', name=op.f('pk_dataset_files'))
    )
    op.create_index(op.f('ix_dataset_files_file_id'), 'dataset_files', ['file_id'], unique=False)
    op.create_table('run_datasets',
    sa.Column('run_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('version_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('parts', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_run_datasets_run_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['version_id'], ['dataset_versions.id'], name=op.f('fk_run_datasets_version_id')),
    sa.PrimaryKeyConstraint('run_id', 'position', name=op.f('pk_run_datasets'))
    )
    op.create_index(op.f('ix_run_datasets_version_id'), 'run_datasets', ['version_id'], unique=False)
