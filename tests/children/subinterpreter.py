"""Imports the package in a subinterpreter, before any other does; then uses it in the main one."""

import os

CODE = """
import os
try:
    import goblins
except ImportError:
    os.write(1, b"ImportError\\n")
else:
    goblins.Vat().run(int)
    os.write(1, b"no error\\n")
"""

try:
    import _xxsubinterpreters as interpreters
except ImportError:
    try:
        import _interpreters as interpreters
    except ImportError:
        os.write(1, b"none here\n")
        raise SystemExit from None

other = interpreters.create()
interpreters.run_string(other, CODE)
interpreters.destroy(other)

import goblins  # noqa: E402

assert goblins.Vat().run(int) == 0
os.write(1, b"done\n")
