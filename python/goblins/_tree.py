"""Trees of pages: nodes that lead to leaves, by the number at which each begins.

In a tree that is *relative* the numbers of a node count from where the node itself begins, so that they are
positions; otherwise they are absolute. What is below the first number of a node belongs to its first child.
"""

from __future__ import annotations

from typing import NamedTuple

from goblins._goblins import Ref, _page, _page_become, _page_find, _page_spawn
from goblins._pages import tree_node

# How many children a node has at most.
FANOUT = 64


class Trail(NamedTuple):
    """The way to a leaf: the nodes, the index of the child in each, the leaf, and the number that is left."""

    nodes: list[Ref]
    indexes: list[int]
    leaf: Ref
    number: int


class Tree(NamedTuple):
    """A tree: its uppermost page, and how many levels of nodes there are above the leaves."""

    top: Ref
    levels: int
    relative: bool = False

    def find(self, number: int) -> Trail:
        """The way to the leaf that this number belongs to."""
        return Trail(*_page_find(self.top, self.levels, number, self.relative))

    def after(self, trail: Trail) -> Trail | None:
        """The way to the leaf that follows."""
        return self._beside(trail, 1)

    def before(self, trail: Trail) -> Trail | None:
        """The way to the leaf that comes before."""
        return self._beside(trail, -1)

    def _beside(self, trail: Trail, step: int) -> Trail | None:
        nodes, indexes = trail.nodes[:], trail.indexes[:]
        for level in reversed(range(len(nodes))):
            children = _page(nodes[level])[2]
            index = indexes[level] + step
            if 0 <= index < len(children):
                break
        else:
            return None
        del nodes[level + 1 :]
        indexes[level:] = [index]
        page = children[index]
        while len(nodes) < self.levels:
            children = _page(page)[2]
            nodes.append(page)
            indexes.append(0 if step > 0 else len(children) - 1)
            page = children[indexes[-1]]
        return Trail(nodes, indexes, page, 0)

    def add(self, trail: Trail, start: int, leaf: Ref) -> Tree:
        """Puts a leaf behind that of the trail. Its ``start`` is, in a relative tree, seen from that one."""
        top, levels = self.top, self.levels
        for node, index in zip(reversed(trail.nodes), reversed(trail.indexes), strict=True):
            _, starts, children = _page(node)
            if self.relative:
                start += starts[index]
            starts = [*starts[: index + 1], start, *starts[index + 1 :]]
            children = [*children[: index + 1], leaf, *children[index + 1 :]]
            if len(children) <= FANOUT:
                _page_become(node, starts, children)
                return self
            # What grows at its end leaves full nodes behind.
            at = FANOUT if index == len(children) - 2 else len(children) // 2
            start = starts[at]
            base = start if self.relative else 0
            leaf = _page_spawn(tree_node, [one - base for one in starts[at:]], children[at:])
            _page_become(node, starts[:at], children[:at])
        return Tree(_page_spawn(tree_node, [0, start], [top, leaf]), levels + 1, self.relative)

    def remove(self, trail: Trail) -> Tree:
        """Takes out the leaf of the trail, with the nodes that lead to nothing else. The last leaf stays."""
        for node, index in zip(reversed(trail.nodes), reversed(trail.indexes), strict=True):
            _, starts, children = _page(node)
            if len(children) > 1:
                starts = [*starts[:index], *starts[index + 1 :]]
                _page_become(node, starts, [*children[:index], *children[index + 1 :]])
                break
        top, levels = self.top, self.levels
        while levels:
            children = _page(top)[2]
            if len(children) > 1:
                break
            top, levels = children[0], levels - 1
        return Tree(top, levels, self.relative)

    def shift(self, trail: Trail, by: int) -> None:
        """Moves all that comes after the leaf of the trail; for relative trees."""
        for node, index in zip(trail.nodes, trail.indexes, strict=True):
            _, starts, children = _page(node)
            if index < len(starts) - 1:
                moved = [start + by for start in starts[index + 1 :]]
                _page_become(node, [*starts[: index + 1], *moved], children)
