"""Tar archives that are read to their end, or not taken for whole.

tarfile takes whatever is no header, or is not there, for the end of an archive, which is a block of nothing alone: one
that broke off between two files would have no other files, and an engine that fails half way says so where the
next header should be.
"""

import tarfile
from typing import Self


class Member(tarfile.TarInfo):
    """For `tarfile.open(tarinfo=...)`: raises ReadError for an archive without its end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            if isinstance(error, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
                raise
            raise tarfile.ReadError(f"it has no end: {error}") from error
