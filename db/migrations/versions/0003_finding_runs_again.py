"""Finding runs again: their arguments in rows, an index for every order, words by trigrams, saved views

Tags and headline values are kept in the order of their keys on SQLite, and tags know their project. What
was recorded before is taken along: arguments of jobs become rows.
"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'

# The state of a table whose rows lie in the order of their primary key.
CLUSTERED = {'sqlite_with_rowid': False}


def upgrade() -> None:
    postgresql = op.get_context().dialect.name == 'postgresql'
    # On PostgreSQL by bytes, as SQLite compares: a page goes on where the last one ended, in any locale.
    word = sa.Text().with_variant(sa.Text(collation='C'), 'postgresql')
    if postgresql:
        op.execute('ALTER TABLE runs ALTER COLUMN name TYPE text COLLATE "C"')
        op.execute('ALTER TABLE run_tags ALTER COLUMN value TYPE text COLLATE "C"')
        op.execute('ALTER TABLE run_tags ADD COLUMN project_id bytea')
        op.execute('UPDATE run_tags SET project_id = runs.project_id FROM runs WHERE runs.id = run_tags.run_id')
        op.execute('ALTER TABLE run_tags ALTER COLUMN project_id SET NOT NULL')
        op.drop_index('ix_run_tags_find', 'run_tags')
    else:
        _rebuild_on_sqlite(word)
    op.create_index('ix_run_tags_find', 'run_tags', ['project_id', 'name', 'value', 'run_id'])
    op.create_table('run_arguments',
    sa.Column('run_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('step', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('project_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('leading', sa.Boolean(), nullable=False),
    sa.Column('number', sa.Float(), nullable=True),
    sa.Column('text', word, nullable=True),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_run_arguments_run_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('run_id', 'step', 'name', name=op.f('pk_run_arguments')),
    **CLUSTERED
    )
    _record_arguments()
    for column in ('number', 'text'):
        where = sa.text(f'{column} IS NOT NULL')
        op.create_index(f'ix_run_arguments_{column}', 'run_arguments', ['project_id', 'name', column, 'run_id'],
                        sqlite_where=where, postgresql_where=where)
    _index_runs()
    op.drop_index('ix_jobs_version_id', 'jobs')
    op.create_index('ix_jobs_version', 'jobs', ['version_id', 'run_id'])
    _index_words(postgresql)
    op.create_table('run_views',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('project_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('owner_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('name', word, nullable=False),
    sa.Column('shared', sa.Boolean(), nullable=False),
    sa.Column('filter', sa.Text(), nullable=True),
    sa.Column('sort', sa.Text(), nullable=True),
    sa.Column('columns', sa.Text(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('updated_at', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['owner_id'], ['users.id'], name=op.f('fk_run_views_owner_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_run_views_project_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_run_views')),
    sa.UniqueConstraint('project_id', 'owner_id', 'name', name=op.f('uq_run_views_project_id_owner_id_name'))
    )
    op.create_index(op.f('ix_run_views_owner_id'), 'run_views', ['owner_id'])


def _rebuild_on_sqlite(word: sa.types.TypeEngine[str]) -> None:
    op.drop_index('ix_run_tags_find', 'run_tags')
    op.create_table('run_tags_clustered',
    sa.Column('run_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('value', word, nullable=False),
    sa.Column('project_id', sa.LargeBinary(length=16), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_run_tags_run_id')),
    sa.PrimaryKeyConstraint('run_id', 'name', name=op.f('pk_run_tags')),
    **CLUSTERED
    )
    op.execute('INSERT INTO run_tags_clustered SELECT run_id, t.name, value, project_id FROM run_tags t '
               'JOIN runs ON runs.id = t.run_id ORDER BY run_id, t.name')
    op.drop_table('run_tags')
    op.rename_table('run_tags_clustered', 'run_tags')
    columns = ('last', 'minimum', 'maximum')
    for column in columns:
        op.drop_index(f'ix_run_metrics_{column[:3] if column != "last" else column}', 'run_metrics')
    op.create_table('run_metrics_clustered',
    sa.Column('run_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('project_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('job_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('last', sa.Float(), nullable=True),
    sa.Column('last_step', sa.BigInteger(), nullable=False),
    sa.Column('minimum', sa.Float(), nullable=True),
    sa.Column('minimum_step', sa.BigInteger(), nullable=True),
    sa.Column('maximum', sa.Float(), nullable=True),
    sa.Column('maximum_step', sa.BigInteger(), nullable=True),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_run_metrics_job_id')),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_run_metrics_project_id')),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_run_metrics_run_id')),
    sa.PrimaryKeyConstraint('run_id', 'name', name=op.f('pk_run_metrics')),
    **CLUSTERED
    )
    op.execute('INSERT INTO run_metrics_clustered SELECT run_id, name, project_id, job_id, attempt, last, last_step, '
               'minimum, minimum_step, maximum, maximum_step FROM run_metrics ORDER BY run_id, name')
    op.drop_table('run_metrics')
    op.rename_table('run_metrics_clustered', 'run_metrics')
    for column in columns:
        op.create_index(f'ix_run_metrics_{column[:3] if column != "last" else column}', 'run_metrics',
                        ['project_id', 'name', column, 'run_id'])


def _record_arguments() -> None:
    connection = op.get_bind()
    rows = sa.table('run_arguments', *(sa.column(name) for name in (
        'run_id', 'step', 'name', 'project_id', 'leading', 'number', 'text')))
    after, most = b'', 1000
    while True:
        found = connection.execute(sa.text(
            'SELECT id, project_id FROM runs WHERE id > :after ORDER BY id LIMIT :most'), {'after': after, 'most': most}).all()
        if not found:
            return
        first, after = found[0].id, found[-1].id
        jobs = connection.execute(sa.text(
            'SELECT run_id, project_id, step, arguments FROM jobs WHERE run_id >= :first AND run_id <= :last '
            'ORDER BY run_id, position'), {'first': first, 'last': after}).all()
        made, seen = [], set()
        for job in jobs:
            for name, value in json.loads(job.arguments).items():
                number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
                text = {True: 'true', False: 'false'}[value] if isinstance(value, bool) else value
                text = text if isinstance(text, str) and len(text) <= 500 and '\0' not in text else None
                if number is None and text is None:
                    continue
                leading = (job.run_id, name) not in seen
                seen.add((job.run_id, name))
                made.append({'run_id': job.run_id, 'step': job.step, 'name': name, 'project_id': job.project_id,
                             'leading': leading, 'number': number, 'text': text})
        if made:
            connection.execute(sa.insert(rows), made)


def _index_runs() -> None:
    for name in ('ix_runs_project', 'ix_runs_state', 'ix_runs_pipeline', 'ix_runs_parent_id'):
        op.drop_index(name, 'runs')
    live: dict[str, Any] = {'sqlite_where': sa.text('archived = 0'), 'postgresql_where': sa.text('NOT archived')}
    archived: dict[str, Any] = {'sqlite_where': sa.text('archived = 1'), 'postgresql_where': sa.text('archived')}
    external: dict[str, Any] = {'sqlite_where': sa.text('external = 1'), 'postgresql_where': sa.text('external')}
    op.create_index('ix_runs_newest', 'runs', ['id'], **live)
    op.create_index('ix_runs_project', 'runs', ['project_id', 'id'], **live)
    op.create_index('ix_runs_all', 'runs', ['project_id', 'id'])
    op.create_index('ix_runs_archived', 'runs', ['project_id', 'id'], **archived)
    op.create_index('ix_runs_external', 'runs', ['project_id', 'id'], **external)
    op.create_index('ix_runs_state', 'runs', ['project_id', 'state', 'id'])
    op.create_index('ix_runs_pipeline', 'runs', ['pipeline_id', 'id'])
    op.create_index('ix_runs_parent', 'runs', ['parent_id', 'id'])
    op.create_index('ix_runs_creator', 'runs', ['created_by', 'id'])
    op.create_index('ix_runs_name', 'runs', ['project_id', 'name', 'id'])
    op.create_index('ix_runs_priority', 'runs', ['project_id', 'priority', 'id'])
    op.create_index('ix_runs_started', 'runs', ['project_id', 'started_at', 'id'])
    op.create_index('ix_runs_ended', 'runs', ['project_id', 'ended_at', 'id'])
    op.create_index('ix_runs_duration', 'runs', ['project_id', sa.text('(ended_at - started_at)'), 'id'])


def _index_words(postgresql: bool) -> None:
    """Three letters at a time, of names and notes together, so that any part of a word is found."""
    if postgresql:
        op.execute('''CREATE FUNCTION run_trigrams(words text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
            SELECT coalesce(array_agg(DISTINCT substr(lower(words), at, 3)), '{}')
            FROM generate_series(1, length(words) - 2) AS at $$''')
        op.execute("CREATE INDEX ix_runs_words ON runs USING gin (run_trigrams((name || ' ') || notes))")
        return
    op.execute("CREATE VIRTUAL TABLE run_words USING fts5(name, notes, content='runs', content_rowid='feed_id', "
               "tokenize='trigram', detail='none', columnsize=0)")
    add = 'INSERT INTO run_words(rowid, name, notes) VALUES (new.feed_id, new.name, new.notes);'
    remove = ("INSERT INTO run_words(run_words, rowid, name, notes) "
              "VALUES ('delete', old.feed_id, old.name, old.notes);")
    op.execute(f'CREATE TRIGGER run_words_inserted AFTER INSERT ON runs BEGIN {add} END')
    op.execute(f'CREATE TRIGGER run_words_updated AFTER UPDATE OF name, notes ON runs BEGIN {remove} {add} END')
    op.execute(f'CREATE TRIGGER run_words_deleted AFTER DELETE ON runs BEGIN {remove} END')
    op.execute("INSERT INTO run_words(run_words) VALUES ('rebuild')")
