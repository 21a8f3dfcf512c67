#!/usr/bin/env bash
# Makes what is generated in this package: sandpool.v1 of the protos, the client for threads (_sync) of the one for
# asyncio (_async), and the copy of the licence, which a package cannot have from outside of its directory. With --check it only says whether that is up to date. Runs in an environment that has
# pyproject.toml's group "generate".
set -euo pipefail
cd "$(dirname "$0")"

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
mkdir -p "$made/src"
cp -r src/sandpool "$made/src/"
package=$made/src/sandpool
rm -rf "$package/v1" "$package/_sync"

python -m grpc_tools.protoc -I ../../proto --python_out="$made/src" --pyi_out="$made/src" \
    --grpc_python_out="$made/src" ../../proto/sandpool/v1/*.proto
touch "$package/v1/__init__.py"

(cd "$made" && python - <<'PYTHON'
from pathlib import Path

import unasync

# Classes lose their Async, and what differs by hand is named alike.
names = ("Client", "Context", "Execution", "Files", "Lasting", "Runner", "Sandbox", "Stream", "Transport")
rule = unasync.Rule(
    "/_async/",
    "/_sync/",
    {f"Async{name}": name for name in names} | {"_async": "_sync", "asynchronous": "synchronous"},
)
unasync.unasync_files([str(path) for path in Path("src/sandpool/_async").glob("*.py")], [rule])
for path in Path("src/sandpool/_sync").glob("*.py"):
    path.write_text("# Made from _async by generate.sh: change it there.\n" + path.read_text())
Path("src/sandpool/_sync/__init__.py").write_text(
    '"""The client for threads, made from _async by generate.sh: change it there."""\n'
)
PYTHON
)

find "$package/v1" "$package/_sync" -name __pycache__ -prune -exec rm -rf {} +
cp ../../LICENSE "$made/"
for part in src/sandpool/v1 src/sandpool/_sync LICENSE; do
    if [ "${1:-}" = --check ]; then
        diff -r -x __pycache__ "$made/$part" "$part" ||
            { echo "clients/python: $part is stale: run clients/python/generate.sh" >&2; exit 1; }
    else
        rm -rf "$part"
        cp -r "$made/$part" "$part"
    fi
done
