"""Fetches that are cancelled"""

from alembic import op

revision = '0015'
down_revision = '0014'

STATES = "state IN ('FETCHING', 'READY', 'FAILED', 'CANCELLED')"


def upgrade() -> None:
    with op.batch_alter_table('data_fetches') as fetches:
        fetches.drop_constraint(op.f('ck_data_fetches_state'), type_='check')
        fetches.create_check_constraint(op.f('ck_data_fetches_state'), STATES)
