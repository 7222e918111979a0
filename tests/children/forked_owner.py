"""Opens a store and forks a child that lives on; leaves the store when told to."""

import gc
import os
import signal
import sys
import time
from pathlib import Path

from goblins import RocksStore

how, folder = sys.argv[1], Path(sys.argv[2])
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
store = RocksStore(folder / "s")
(folder / "child").write_text("")
child = os.fork()
if child == 0:
    while True:
        time.sleep(1)
(folder / "child").write_text(str(child))
print("forked", flush=True)
signal.sigwait([signal.SIGUSR1])
if how == "closed":
    store.close()
del store
gc.collect()
print("closed", flush=True)
signal.sigwait([signal.SIGUSR1])
