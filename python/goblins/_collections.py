"""Collections for large state of actors."""

from goblins._cells import CELLS
from goblins._list import List
from goblins._map import Map
from goblins._pages import register
from goblins._set import Set

__all__ = ["List", "Map", "Set"]

register({kind._kind: kind for kind in (Map, Set, List)}, CELLS)
