"""One set of modules in a process.

The extension is loaded once: it makes and raises what the modules of its first import define. A later import,
after the package was taken out of ``sys.modules``, gets those modules again, so that what was imported before
and after fits together.
"""

from __future__ import annotations

import sys

from goblins import _goblins

_modules = _goblins._first_modules()
sys.modules.update(_modules)


def is_first() -> bool:
    """Whether this is the first import: then its modules are the ones to be kept."""
    if _modules:
        return False
    _modules.update({name: module for name, module in sys.modules.items() if name.startswith("goblins.")})
    return True
