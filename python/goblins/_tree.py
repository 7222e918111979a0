"""Trees of pages: nodes that lead to leaves, by the number at which each begins.

In a tree that is *relative* the numbers of a node count from where the node itself begins, so that they are
positions; otherwise they are absolute. What is below the first number of a node belongs to its first child.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from goblins._goblins import Ref, _page, _page_become, _page_damaged, _page_find, _page_most, _page_spawn
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
        return Trail(*_page_find(tree_node, self.top, self.levels, number, self.relative))

    def after(self, trail: Trail) -> Trail | None:
        """The way to the leaf that follows."""
        return self._beside(trail, 1)

    def onward(self, number: int, back: bool = False) -> Iterator[Trail]:
        """The ways to the leaf that a number belongs to, and to all after it, or before it."""
        trail: Trail | None = self.find(number)
        met = 0
        while trail is not None:
            yield trail
            met += 1
            if met > _page_most(self.top):
                raise _page_damaged(self.top, "it leads to more pages than there are")
            trail = self._beside(trail, -1 if back else 1)

    def _beside(self, trail: Trail, step: int) -> Trail | None:
        nodes, indexes = trail.nodes[:], trail.indexes[:]
        for level in reversed(range(len(nodes))):
            children = _page(nodes[level], tree_node)[2]
            index = indexes[level] + step
            if 0 <= index < len(children):
                break
        else:
            return None
        del nodes[level + 1 :]
        indexes[level:] = [index]
        page = children[index]
        while len(nodes) < self.levels:
            children = _page(page, tree_node)[2]
            nodes.append(page)
            indexes.append(0 if step > 0 else len(children) - 1)
            page = children[indexes[-1]]
        return Trail(nodes, indexes, page, 0)

    @classmethod
    def over(cls, leaves: list[tuple[int, Ref]]) -> Tree:
        """One that leads to these leaves, which have their numbers: one at least, in order."""
        levels, pages = 0, leaves
        while len(pages) > 1:
            parts = [pages[at : at + FANOUT] for at in range(0, len(pages), FANOUT)]
            made = [
                _page_spawn(tree_node, [start for start, _ in part], [one for _, one in part])
                for part in parts
            ]
            pages = [(part[0][0], node) for part, node in zip(parts, made, strict=True)]
            levels += 1
        return cls(pages[0][1], levels)

    def add(self, trail: Trail, start: int, leaf: Ref) -> Tree:
        """Puts a leaf behind that of the trail. Its ``start`` is, in a relative tree, seen from that one."""
        top, levels = self.top, self.levels
        for node, index in zip(reversed(trail.nodes), reversed(trail.indexes), strict=True):
            _, starts, children = _page(node, tree_node)
            if self.relative:
                start += starts[index]
            # What is below the number of the first child belongs to that as well, so its number may be any.
            first = min(starts[0], start - 1)
            starts = [first, *starts[1 : index + 1], start, *starts[index + 1 :]]
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
            _, starts, children = _page(node, tree_node)
            if len(children) > 1:
                starts = [*starts[:index], *starts[index + 1 :]]
                _page_become(node, starts, [*children[:index], *children[index + 1 :]])
                break
        top, levels = self.top, self.levels
        while levels:
            children = _page(top, tree_node)[2]
            if len(children) > 1:
                break
            top, levels = children[0], levels - 1
        return Tree(top, levels, self.relative)

    def shift(self, trail: Trail, by: int) -> None:
        """Moves all that comes after the leaf of the trail; for relative trees."""
        for node, index in zip(trail.nodes, trail.indexes, strict=True):
            _, starts, children = _page(node, tree_node)
            if index < len(starts) - 1:
                moved = [start + by for start in starts[index + 1 :]]
                _page_become(node, [*starts[: index + 1], *moved], children)
