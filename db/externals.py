"""External runs: code anywhere reports to a run that nothing of ours launches.

Such a run has one job, one attempt and one worker, RUNNING from the start. Who reports is heard: any report
moves `expires_at`, and a run whose reporter has been silent until then is LOST (`expire`). A report that comes
after that reopens it, the one move out of an end (states.REOPENED), told in its timeline.
"""

from datetime import datetime

from sqlalchemy import Float, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.columns import Base, Id, Timestamp


class External(Base):
    """Who reports to an external run, and until when silence is borne. No `expires_at`: it has ended."""

    __tablename__ = "externals"
    __table_args__ = (
        Index(
            "ix_externals_expires_at",
            "expires_at",
            sqlite_where=text("expires_at IS NOT NULL"),
            postgresql_where=text("expires_at IS NOT NULL"),
        ),
    )

    run_id: Mapped[bytes] = mapped_column(Id, ForeignKey("runs.id"), primary_key=True)
    job_id: Mapped[bytes] = mapped_column(Id, ForeignKey("jobs.id"), unique=True)
    attempt_id: Mapped[bytes] = mapped_column(Id, ForeignKey("attempts.id"), unique=True)
    heartbeat_seconds: Mapped[float] = mapped_column(Float)
    heard_at: Mapped[datetime] = mapped_column(Timestamp)
    expires_at: Mapped[datetime | None] = mapped_column(Timestamp)
