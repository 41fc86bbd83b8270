"""Modules from git and archives, removed modules, versions that are the same"""

import sqlalchemy as sa
from alembic import op

revision = '0008'
down_revision = '0007'


def upgrade() -> None:
    with op.batch_alter_table('modules') as modules:
        modules.add_column(sa.Column('removed_at', sa.BigInteger(), nullable=True))
        modules.drop_constraint('uq_modules_project_id_name', type_='unique')
    op.create_index(
        'ix_modules_project_id_name', 'modules', ['project_id', 'name'], unique=True,
        sqlite_where=sa.text('removed_at IS NULL'), postgresql_where=sa.text('removed_at IS NULL'),
    )
    with op.batch_alter_table('module_versions') as versions:
        versions.add_column(sa.Column('ref', sa.Text(), nullable=True))
        versions.add_column(sa.Column('subfolder', sa.Text(), nullable=True))
        versions.add_column(sa.Column('submodules', sa.Boolean(), server_default=sa.false(), nullable=False))
        versions.add_column(sa.Column('wanted_name', sa.Text(), nullable=True))
        versions.add_column(sa.Column('revision', sa.Text(), nullable=True))
        versions.add_column(sa.Column('same_as', sa.LargeBinary(length=16), nullable=True))
        versions.add_column(sa.Column('notes', sa.Text(), server_default='[]', nullable=False))
        versions.add_column(sa.Column('prepared_at', sa.BigInteger(), nullable=True))
        versions.create_foreign_key(
            op.f('fk_module_versions_same_as'), 'module_versions', ['same_as'], ['id']
        )
    op.add_column('preparations', sa.Column('freed_at', sa.BigInteger(), nullable=True))
    op.execute(
        "UPDATE module_versions SET prepared_at = (SELECT min(ended_at) FROM preparations"
        " WHERE preparations.version_id = module_versions.id AND preparations.state = 'READY')"
    )
