"""Tries to open a store, and tells as JSON what came of it."""

import json
import sys

from goblins import RocksStore, StoreError

try:
    RocksStore(sys.argv[1]).close()
except StoreError as error:
    told = {name: getattr(error, name, None) for name in ("pid", "host", "command")}
    print(json.dumps({"error": type(error).__name__, "path": str(error.path), **told}))
else:
    print(json.dumps({"error": None}))
