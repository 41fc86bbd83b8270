"""Reads /mnt/input/input.json, writes a greeting beside each file, says so as the older format has it."""

import json
from pathlib import Path

INPUT, OUTPUT = Path("/mnt/input"), Path("/mnt/output")

job = json.loads((INPUT / "input.json").read_text())
names = []
for name in job["files"]:
    names.append(f"{name}.greeting.txt")
    greeting = f"Hello {job['options']['whom']}\n"
    (OUTPUT / names[-1]).write_text(greeting.upper() if job["options"]["style"] == "loud" else greeting)
said = {
    "name": job["name"],
    "files": names,
    "files_extra": names,
    "files_modified": [],
    "tags": [{"greeted": True} for _ in names],
}
(OUTPUT / "output.json").write_text(json.dumps(said))
