"""Reads /mnt/input/input.json, greets in each file, says so in /mnt/output/output.json."""

import json
from pathlib import Path

INPUT, OUTPUT = Path("/mnt/input"), Path("/mnt/output")

job = json.loads((INPUT / "input.json").read_text())
options = job["options"]
greeting = f"Hello {options['whom']}\n"
if options["style"] == "loud":
    greeting = greeting.upper()
for name in job["files"]:
    (OUTPUT / name).write_text(greeting * options["times"] + (INPUT / name).read_text())
said = {
    "name": job["name"],
    "files": job["files"],
    "files_created": [],
    "files_modified": job["files"],
    "tags": [{"greetings": options["times"]} for _ in job["files"]],
}
(OUTPUT / "output.json").write_text(json.dumps(said))
