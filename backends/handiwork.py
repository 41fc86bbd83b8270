"""The process that works with files for the server (hand.py is the server's end): does what it is told, and answers.

It is told a function and what to give it, and answers with what that returned or raised, each as a pickle behind its
length. It ends when the server closes its end or is gone, once it has done what it was told. What it may be told is
read at its start: later the files may be another version's.
"""

import os
import pickle
import signal
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from backends import contents as _contents  # noqa: F401 - read at the start
from backends import folders as _folders  # noqa: F401

HEAD = struct.Struct("=QI")
"""A number to answer under, and how many bytes follow: a pickle of a function and what it is given, or of whether it
returned and what it returned or raised."""
AT_ONCE = 4
"""A large file keeps no small one waiting."""


def main() -> None:
    """Until the server's end is closed."""
    for each in (signal.SIGINT, signal.SIGTERM):  # meant for the server, which ends us by closing its end
        signal.signal(each, signal.SIG_IGN)
    answering = threading.Lock()

    def work(number: int, asked: bytes) -> None:
        answer = done(asked)
        try:
            with answering:
                sys.stdout.buffer.write(HEAD.pack(number, len(answer)) + answer)
                sys.stdout.buffer.flush()
        except BrokenPipeError:  # nobody is left to be told, of the rest either
            os._exit(0)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        while len(head := sys.stdin.buffer.read(HEAD.size)) == HEAD.size:
            number, size = HEAD.unpack(head)
            threads.submit(work, number, sys.stdin.buffer.read(size))


def done(asked: bytes) -> bytes:
    """Do the work; whoever asked is told also what cannot be pickled, or is not there."""
    try:
        function, given = pickle.loads(asked)
        return pickle.dumps((True, function(*given)))
    except BaseException as error:  # noqa: BLE001 - nobody else asks what ended a thread's work
        told = error if isinstance(error, Exception) else RuntimeError(repr(error))
        try:
            return pickle.dumps((False, told))
        except Exception:  # noqa: BLE001
            return pickle.dumps((False, RuntimeError(repr(error))))
