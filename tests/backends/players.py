"""A program that plays scripts of `backends/scripts.py` for real, in one text that any Python takes by `-c`.

So the fake backend and the real ones are asked the same by one suite. Every start of it leaves a byte in the
output file `ran`.
"""

from functools import cache
from pathlib import Path

from backends import scripts

DRIVER = """
import os, shutil, signal, sys, time

source, target = os.environ["RUNGRAPH_INPUT"], os.environ["RUNGRAPH_OUTPUT"]
with open(target + "/ran", "a") as ran:
    ran.write("x")
with open(source + "/input.json") as document:
    given = Given(int(os.environ.get("RANK", "0")), os.environ, document.read())
played = play(sys.argv[1:], given)
if played.polite is None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
elif played.polite >= 0:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(played.polite))
began = time.monotonic()


def until(at):
    while at > time.monotonic() - began:
        sys.stdout.flush(), sys.stderr.flush()
        time.sleep(min(600, at - (time.monotonic() - began)))


for each in sorted([*played.said, *played.wrote], key=lambda each: each.at):
    until(each.at)
    if isinstance(each, Said):
        (sys.stdout if each.stream == STDOUT else sys.stderr).buffer.write(each.data)
    elif each.copied:
        shutil.copyfile(source + "/" + each.copied, target + "/" + each.name)
    else:
        with open(target + "/" + each.name, "wb") as file:
            file.write(each.content)
until(played.at)
sys.stdout.flush(), sys.stderr.flush()
if played.reason == "OUT_OF_MEMORY":
    taken = []
    while True:
        taken.append(b"x" * (1 << 22))
        time.sleep(0.02)
if played.reason not in (COMPLETED, EXIT_CODE):
    raise SystemExit("only fate can do " + played.reason)
if played.code < 0:
    os.kill(os.getpid(), -played.code)
os._exit(played.code)
"""


@cache
def player() -> str:
    """The program; its arguments are the steps."""
    return Path(scripts.__file__).read_text() + DRIVER
