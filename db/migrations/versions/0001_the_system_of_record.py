"""The system of record"""

import sqlalchemy as sa
from alembic import op

revision = '0001'
down_revision = None


def upgrade() -> None:
    op.create_table('projects',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_projects')),
    sa.UniqueConstraint('name', name=op.f('uq_projects_name'))
    )
    op.create_table('supervisors',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('epoch', sa.BigInteger(), nullable=False),
    sa.Column('expires_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_supervisors')),
    sa.UniqueConstraint('name', name=op.f('uq_supervisors_name'))
    )
    op.create_table('users',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_users')),
    sa.UniqueConstraint('name', name=op.f('uq_users_name'))
    )
    op.create_table('backends',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('scope', sa.Text(), nullable=False),
    sa.Column('config', sa.Text(), nullable=False),
    sa.Column('slots', sa.Integer(), nullable=False),
    sa.Column('cpus', sa.Float(), nullable=False),
    sa.Column('memory_bytes', sa.BigInteger(), nullable=False),
    sa.Column('gpus', sa.Integer(), nullable=False),
    sa.Column('supervisor_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('epoch', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("scope IN ('HOST', 'CLUSTER')", name=op.f('ck_backends_scope')),
    sa.ForeignKeyConstraint(['supervisor_id'], ['supervisors.id'], name=op.f('fk_backends_supervisor_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_backends')),
    sa.UniqueConstraint('name', name=op.f('uq_backends_name'))
    )
    op.create_table('feeds',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('owner', sa.LargeBinary(length=16), nullable=False),
    sa.Column('project_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('seq', sa.BigInteger(), nullable=False),
    sa.Column('floor', sa.BigInteger(), nullable=False),
    sa.Column('ended', sa.Boolean(), nullable=False),
    sa.CheckConstraint("kind IN ('RUN', 'MODULE_VERSION')", name=op.f('ck_feeds_kind')),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_feeds_project_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_feeds')),
    sa.UniqueConstraint('owner', name=op.f('uq_feeds_owner'))
    )
    op.create_table('files',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('project_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('sha256', sa.Text(), nullable=True),
    sa.Column('media_type', sa.Text(), nullable=False),
    sa.Column('tags', sa.Text(), nullable=False),
    sa.Column('run_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('job_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('derived_from', sa.LargeBinary(length=16), nullable=True),
    sa.Column('created_by', sa.LargeBinary(length=16), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("kind IN ('INPUT', 'OUTPUT')", name=op.f('ck_files_kind')),
    sa.CheckConstraint("state IN ('UPLOADING', 'READY')", name=op.f('ck_files_state')),
    sa.ForeignKeyConstraint(['created_by'], ['users.id'], name=op.f('fk_files_created_by')),
    sa.ForeignKeyConstraint(['derived_from'], ['files.id'], name=op.f('fk_files_derived_from')),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_files_project_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_files'))
    )
    op.create_index(op.f('ix_files_job_id'), 'files', ['job_id'])
    op.create_index(op.f('ix_files_project_id'), 'files', ['project_id'])
    op.create_index(op.f('ix_files_run_id'), 'files', ['run_id'])
    op.create_index(op.f('ix_files_sha256'), 'files', ['sha256'])
    op.create_table('modules',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('project_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('versions', sa.Integer(), nullable=False),
    sa.Column('active_version_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    # Modules and their versions point at each other: SQLite takes a reference to a table that is still to
    # come and cannot add one later, PostgreSQL the other way round.
    *([] if op.get_context().dialect.name == 'postgresql' else [
        sa.ForeignKeyConstraint(['active_version_id'], ['module_versions.id'], name=op.f('fk_modules_active_version_id'))
    ]),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_modules_project_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_modules')),
    sa.UniqueConstraint('project_id', 'name', name=op.f('uq_modules_project_id_name'))
    )
    op.create_table('pipelines',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('project_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('description', sa.Text(), nullable=False),
    sa.Column('revision', sa.Integer(), nullable=False),
    sa.Column('created_by', sa.LargeBinary(length=16), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['created_by'], ['users.id'], name=op.f('fk_pipelines_created_by')),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_pipelines_project_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_pipelines')),
    sa.UniqueConstraint('project_id', 'name', name=op.f('uq_pipelines_project_id_name'))
    )
    op.create_table('tokens',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('sha256', sa.LargeBinary(length=32), nullable=False),
    sa.Column('user_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('project_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('expires_at', sa.BigInteger(), nullable=True),
    sa.Column('revoked_at', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("kind IN ('ADMINISTRATOR', 'USER', 'SESSION', 'LINK')", name=op.f('ck_tokens_kind')),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_tokens_project_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_tokens_user_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_tokens')),
    sa.UniqueConstraint('sha256', name=op.f('uq_tokens_sha256'))
    )
    op.create_index(op.f('ix_tokens_user_id'), 'tokens', ['user_id'])
    op.create_table('events',
    sa.Column('feed_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('seq', sa.BigInteger(), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('subject', sa.Text(), nullable=False),
    sa.Column('subject_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('data', sa.Text(), nullable=False),
    sa.CheckConstraint("subject IN ('RUN', 'JOB', 'WORKER', 'MODULE_VERSION', 'PREPARATION')", name=op.f('ck_events_subject')),
    sa.ForeignKeyConstraint(['feed_id'], ['feeds.id'], name=op.f('fk_events_feed_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('feed_id', 'seq', name=op.f('pk_events'))
    )
    op.create_table('module_versions',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('project_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('module_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('number', sa.Integer(), nullable=True),
    sa.Column('source', sa.Text(), nullable=False),
    sa.Column('digest', sa.Text(), nullable=True),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('message', sa.Text(), nullable=True),
    sa.Column('problems', sa.Text(), nullable=False),
    sa.Column('manifest', sa.Text(), nullable=True),
    sa.Column('feed_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('created_by', sa.LargeBinary(length=16), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("state IN ('FETCHING', 'READY', 'FAILED')", name=op.f('ck_module_versions_state')),
    sa.ForeignKeyConstraint(['created_by'], ['users.id'], name=op.f('fk_module_versions_created_by')),
    sa.ForeignKeyConstraint(['feed_id'], ['feeds.id'], name=op.f('fk_module_versions_feed_id')),
    sa.ForeignKeyConstraint(['module_id'], ['modules.id'], name=op.f('fk_module_versions_module_id')),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_module_versions_project_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_module_versions')),
    sa.UniqueConstraint('feed_id', name=op.f('uq_module_versions_feed_id')),
    sa.UniqueConstraint('module_id', 'number', name=op.f('uq_module_versions_module_id_number'))
    )
    op.create_index(op.f('ix_module_versions_state'), 'module_versions', ['state'])
    op.create_table('pipeline_revisions',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('pipeline_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('created_by', sa.LargeBinary(length=16), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['created_by'], ['users.id'], name=op.f('fk_pipeline_revisions_created_by')),
    sa.ForeignKeyConstraint(['pipeline_id'], ['pipelines.id'], name=op.f('fk_pipeline_revisions_pipeline_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_pipeline_revisions')),
    sa.UniqueConstraint('pipeline_id', 'number', name=op.f('uq_pipeline_revisions_pipeline_id_number'))
    )
    op.create_table('functions',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('version_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('module_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('spec', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['module_id'], ['modules.id'], name=op.f('fk_functions_module_id')),
    sa.ForeignKeyConstraint(['version_id'], ['module_versions.id'], name=op.f('fk_functions_version_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_functions')),
    sa.UniqueConstraint('version_id', 'name', name=op.f('uq_functions_version_id_name'))
    )
    op.create_index(op.f('ix_functions_module_id'), 'functions', ['module_id'])
    op.create_table('preparations',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('version_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('backend_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('host', sa.Text(), nullable=False),
    sa.Column('feed_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('message', sa.Text(), nullable=True),
    sa.Column('prepared', sa.Text(), nullable=True),
    sa.Column('started_at', sa.BigInteger(), nullable=True),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("state IN ('PENDING', 'BUILDING', 'READY', 'FAILED')", name=op.f('ck_preparations_state')),
    sa.ForeignKeyConstraint(['backend_id'], ['backends.id'], name=op.f('fk_preparations_backend_id')),
    sa.ForeignKeyConstraint(['feed_id'], ['feeds.id'], name=op.f('fk_preparations_feed_id')),
    sa.ForeignKeyConstraint(['version_id'], ['module_versions.id'], name=op.f('fk_preparations_version_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_preparations')),
    sa.UniqueConstraint('version_id', 'backend_id', 'host', name=op.f('uq_preparations_version_id_backend_id_host'))
    )
    op.create_index(op.f('ix_preparations_state'), 'preparations', ['state'])
    op.create_table('runs',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('project_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('feed_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('pipeline_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('revision_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('notes', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('priority', sa.Integer(), nullable=False),
    sa.Column('fail_fast', sa.Boolean(), nullable=False),
    sa.Column('external', sa.Boolean(), nullable=False),
    sa.Column('archived', sa.Boolean(), nullable=False),
    sa.Column('idempotency_key', sa.Text(), nullable=True),
    sa.Column('request_sha256', sa.LargeBinary(length=32), nullable=True),
    sa.Column('retry_of', sa.LargeBinary(length=16), nullable=True),
    sa.Column('parent_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('created_by', sa.LargeBinary(length=16), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('cancel_requested_at', sa.BigInteger(), nullable=True),
    sa.Column('started_at', sa.BigInteger(), nullable=True),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("state IN ('QUEUED', 'RUNNING', 'CANCELLING', 'SUCCEEDED', 'FAILED', 'CANCELLED')", name=op.f('ck_runs_state')),
    sa.ForeignKeyConstraint(['created_by'], ['users.id'], name=op.f('fk_runs_created_by')),
    sa.ForeignKeyConstraint(['feed_id'], ['feeds.id'], name=op.f('fk_runs_feed_id')),
    sa.ForeignKeyConstraint(['parent_id'], ['runs.id'], name=op.f('fk_runs_parent_id')),
    sa.ForeignKeyConstraint(['pipeline_id'], ['pipelines.id'], name=op.f('fk_runs_pipeline_id')),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_runs_project_id')),
    sa.ForeignKeyConstraint(['retry_of'], ['runs.id'], name=op.f('fk_runs_retry_of')),
    sa.ForeignKeyConstraint(['revision_id'], ['pipeline_revisions.id'], name=op.f('fk_runs_revision_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_runs')),
    sa.UniqueConstraint('feed_id', name=op.f('uq_runs_feed_id')),
    sa.UniqueConstraint('project_id', 'idempotency_key', name=op.f('uq_runs_project_id_idempotency_key'))
    )
    op.create_index(op.f('ix_runs_parent_id'), 'runs', ['parent_id'])
    op.create_index('ix_runs_pipeline', 'runs', ['pipeline_id', 'id'])
    op.create_index('ix_runs_project', 'runs', ['project_id', 'id'])
    op.create_index('ix_runs_state', 'runs', ['state', 'id'])
    op.create_table('steps',
    sa.Column('revision_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('address', sa.Text(), nullable=False),
    sa.Column('module_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('arguments', sa.Text(), nullable=False),
    sa.Column('needs', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['module_id'], ['modules.id'], name=op.f('fk_steps_module_id')),
    sa.ForeignKeyConstraint(['revision_id'], ['pipeline_revisions.id'], name=op.f('fk_steps_revision_id')),
    sa.PrimaryKeyConstraint('revision_id', 'position', name=op.f('pk_steps')),
    sa.UniqueConstraint('revision_id', 'name', name=op.f('uq_steps_revision_id_name'))
    )
    op.create_index(op.f('ix_steps_module_id'), 'steps', ['module_id'])
    op.create_table('jobs',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('run_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('project_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('feed_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('step', sa.Text(), nullable=False),
    sa.Column('function_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('version_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('backend_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('arguments', sa.Text(), nullable=False),
    sa.Column('needs', sa.Text(), nullable=False),
    sa.Column('priority', sa.Integer(), nullable=False),
    sa.Column('workers', sa.Integer(), nullable=False),
    sa.Column('cpus', sa.Float(), nullable=True),
    sa.Column('memory_bytes', sa.BigInteger(), nullable=True),
    sa.Column('gpus', sa.Integer(), nullable=False),
    sa.Column('timeout_seconds', sa.Float(), nullable=True),
    sa.Column('retries', sa.Integer(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('not_before', sa.BigInteger(), nullable=True),
    sa.Column('reason', sa.Text(), nullable=True),
    sa.Column('message', sa.Text(), nullable=True),
    sa.Column('exit_code', sa.Integer(), nullable=True),
    sa.Column('output', sa.Text(), nullable=True),
    sa.Column('reused_from', sa.LargeBinary(length=16), nullable=True),
    sa.Column('queued_at', sa.BigInteger(), nullable=True),
    sa.Column('started_at', sa.BigInteger(), nullable=True),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("state IN ('WAITING', 'QUEUED', 'STARTING', 'RUNNING', 'CANCELLING', 'SUCCEEDED', 'FAILED', 'CANCELLED', 'SKIPPED')", name=op.f('ck_jobs_state')),
    sa.ForeignKeyConstraint(['backend_id'], ['backends.id'], name=op.f('fk_jobs_backend_id')),
    sa.ForeignKeyConstraint(['feed_id'], ['feeds.id'], name=op.f('fk_jobs_feed_id')),
    sa.ForeignKeyConstraint(['function_id'], ['functions.id'], name=op.f('fk_jobs_function_id')),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_jobs_project_id')),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_jobs_run_id')),
    sa.ForeignKeyConstraint(['version_id'], ['module_versions.id'], name=op.f('fk_jobs_version_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_jobs')),
    sa.UniqueConstraint('run_id', 'position', name=op.f('uq_jobs_run_id_position')),
    sa.UniqueConstraint('run_id', 'step', name=op.f('uq_jobs_run_id_step'))
    )
    op.create_index('ix_jobs_claim', 'jobs', ['backend_id', sa.text('priority DESC'), 'id'], sqlite_where=sa.text("state = 'QUEUED'"), postgresql_where=sa.text("state = 'QUEUED'"))
    op.create_index('ix_jobs_active', 'jobs', ['backend_id'], sqlite_where=sa.text("state IN ('STARTING', 'RUNNING', 'CANCELLING')"), postgresql_where=sa.text("state IN ('STARTING', 'RUNNING', 'CANCELLING')"))
    op.create_index(op.f('ix_jobs_version_id'), 'jobs', ['version_id'])
    op.create_table('run_files',
    sa.Column('run_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('file_id', sa.LargeBinary(length=16), nullable=False),
    sa.ForeignKeyConstraint(['file_id'], ['files.id'], name=op.f('fk_run_files_file_id')),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_run_files_run_id')),
    sa.PrimaryKeyConstraint('run_id', 'position', name=op.f('pk_run_files'))
    )
    op.create_index(op.f('ix_run_files_file_id'), 'run_files', ['file_id'])
    op.create_table('run_tags',
    sa.Column('run_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('value', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_run_tags_run_id')),
    sa.PrimaryKeyConstraint('run_id', 'name', name=op.f('pk_run_tags'))
    )
    op.create_index('ix_run_tags_find', 'run_tags', ['name', 'value', 'run_id'])
    op.create_table('attempts',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('job_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('run_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('feed_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('backend_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('host', sa.Text(), nullable=False),
    sa.Column('supervisor_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('epoch', sa.BigInteger(), nullable=True),
    sa.Column('handle', sa.Text(), nullable=True),
    sa.Column('stop_reason', sa.Text(), nullable=True),
    sa.Column('stop_grace_seconds', sa.Float(), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('started_at', sa.BigInteger(), nullable=True),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.Column('reason', sa.Text(), nullable=True),
    sa.Column('exit_code', sa.Integer(), nullable=True),
    sa.Column('message', sa.Text(), nullable=True),
    sa.Column('removed', sa.Boolean(), nullable=False),
    sa.ForeignKeyConstraint(['backend_id'], ['backends.id'], name=op.f('fk_attempts_backend_id')),
    sa.ForeignKeyConstraint(['feed_id'], ['feeds.id'], name=op.f('fk_attempts_feed_id')),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_attempts_job_id')),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_attempts_run_id')),
    sa.ForeignKeyConstraint(['supervisor_id'], ['supervisors.id'], name=op.f('fk_attempts_supervisor_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_attempts')),
    sa.UniqueConstraint('job_id', 'number', name=op.f('uq_attempts_job_id_number'))
    )
    op.create_index('ix_attempts_held', 'attempts', ['backend_id'], sqlite_where=sa.text('removed = 0'), postgresql_where=sa.text('NOT removed'))
    op.create_index(op.f('ix_attempts_run_id'), 'attempts', ['run_id'])
    op.create_table('job_files',
    sa.Column('job_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('direction', sa.Text(), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('file_id', sa.LargeBinary(length=16), nullable=False),
    sa.CheckConstraint("direction IN ('INPUT', 'OUTPUT')", name=op.f('ck_job_files_direction')),
    sa.ForeignKeyConstraint(['file_id'], ['files.id'], name=op.f('fk_job_files_file_id')),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_job_files_job_id')),
    sa.PrimaryKeyConstraint('job_id', 'direction', 'position', name=op.f('pk_job_files'))
    )
    op.create_index(op.f('ix_job_files_file_id'), 'job_files', ['file_id'])
    op.create_table('log_chunks',
    sa.Column('feed_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('seq', sa.BigInteger(), nullable=False),
    sa.Column('job_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('rank', sa.Integer(), nullable=False),
    sa.Column('lines', sa.Integer(), nullable=False),
    sa.Column('data', sa.LargeBinary(), nullable=False),
    sa.ForeignKeyConstraint(['feed_id'], ['feeds.id'], name=op.f('fk_log_chunks_feed_id')),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_log_chunks_job_id')),
    sa.PrimaryKeyConstraint('feed_id', 'seq', name=op.f('pk_log_chunks'))
    )
    op.create_index('ix_log_chunks_job', 'log_chunks', ['job_id', 'seq'])
    op.create_table('run_metrics',
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
    sa.PrimaryKeyConstraint('run_id', 'name', name=op.f('pk_run_metrics'))
    )
    op.create_index('ix_run_metrics_last', 'run_metrics', ['project_id', 'name', 'last', 'run_id'])
    op.create_index('ix_run_metrics_max', 'run_metrics', ['project_id', 'name', 'maximum', 'run_id'])
    op.create_index('ix_run_metrics_min', 'run_metrics', ['project_id', 'name', 'minimum', 'run_id'])
    op.create_table('producers',
    sa.Column('attempt_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('producer', sa.Text(), nullable=False),
    sa.Column('number', sa.BigInteger(), nullable=False),
    sa.Column('seq', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['attempt_id'], ['attempts.id'], name=op.f('fk_producers_attempt_id')),
    sa.PrimaryKeyConstraint('attempt_id', 'producer', name=op.f('pk_producers'))
    )
    op.create_table('workers',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('attempt_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('rank', sa.Integer(), nullable=False),
    sa.Column('phase', sa.Text(), nullable=False),
    sa.Column('node', sa.Text(), nullable=True),
    sa.Column('address', sa.Text(), nullable=True),
    sa.Column('exit_code', sa.Integer(), nullable=True),
    sa.Column('read_offset', sa.BigInteger(), nullable=False),
    sa.Column('lines', sa.BigInteger(), nullable=False),
    sa.Column('started_at', sa.BigInteger(), nullable=True),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("phase IN ('PENDING', 'RUNNING', 'SUCCEEDED', 'FAILED', 'LOST')", name=op.f('ck_workers_phase')),
    sa.ForeignKeyConstraint(['attempt_id'], ['attempts.id'], name=op.f('fk_workers_attempt_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_workers')),
    sa.UniqueConstraint('attempt_id', 'rank', name=op.f('uq_workers_attempt_id_rank'))
    )
    op.create_table('series',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('worker_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('run_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('job_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('attempt_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('points', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['attempt_id'], ['attempts.id'], name=op.f('fk_series_attempt_id')),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_series_job_id')),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_series_run_id')),
    sa.ForeignKeyConstraint(['worker_id'], ['workers.id'], name=op.f('fk_series_worker_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_series')),
    sa.UniqueConstraint('worker_id', 'name', name=op.f('uq_series_worker_id_name'))
    )
    op.create_index('ix_series_run', 'series', ['run_id', 'name'])
    op.create_table('metric_chunks',
    sa.Column('series_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('first_seq', sa.BigInteger(), nullable=False),
    sa.Column('last_seq', sa.BigInteger(), nullable=False),
    sa.Column('feed_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('points', sa.Integer(), nullable=False),
    sa.Column('first_step', sa.BigInteger(), nullable=False),
    sa.Column('last_step', sa.BigInteger(), nullable=False),
    sa.Column('minimum', sa.Float(), nullable=True),
    sa.Column('maximum', sa.Float(), nullable=True),
    sa.Column('steps', sa.LargeBinary(), nullable=False),
    sa.Column('times', sa.LargeBinary(), nullable=False),
    sa.Column('vals', sa.LargeBinary(), nullable=False),
    sa.Column('seqs', sa.LargeBinary(), nullable=True),
    sa.ForeignKeyConstraint(['feed_id'], ['feeds.id'], name=op.f('fk_metric_chunks_feed_id')),
    sa.ForeignKeyConstraint(['series_id'], ['series.id'], name=op.f('fk_metric_chunks_series_id')),
    sa.PrimaryKeyConstraint('series_id', 'first_seq', name=op.f('pk_metric_chunks'))
    )
    op.create_index('ix_metric_chunks_feed', 'metric_chunks', ['feed_id', 'last_seq'])
    if op.get_context().dialect.name == 'postgresql':
        op.create_foreign_key(op.f('fk_modules_active_version_id'), 'modules', 'module_versions', ['active_version_id'], ['id'])
