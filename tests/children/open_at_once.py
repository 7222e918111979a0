"""Opens a store as soon as it is told to, says what came of it, and waits for its input to end."""

import json
import os
import sys

from goblins import RocksStore, StoreLockedError

print("ready", flush=True)
sys.stdin.readline()
try:
    store = RocksStore(sys.argv[1])
except StoreLockedError as error:
    told = {"error": str(error), "pid": error.pid, "host": error.host, "command": error.command}
    print(json.dumps(told), flush=True)
else:
    print(json.dumps({"error": None, "pid": os.getpid()}), flush=True)
    sys.stdin.readline()
    store.close()
