"""What stores say of themselves, and copying them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from goblins._goblins import Store, _copy_store

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PartReport:
    """What a collection found in one part of a store.

    Attributes:
        name: the part.
        kept: how many actors stay.
        removed: how many were removed.
        bytes: how many bytes their records took, with their keys.
    """

    name: str
    kept: int
    removed: int
    bytes: int


@dataclass(frozen=True, slots=True)
class CollectionReport:
    """What ``Store.collect`` has done.

    Attributes:
        parts: for each part, in the order of their names.
        seconds: how long it took.
        kept, removed, bytes: the sums over all parts.
    """

    parts: tuple[PartReport, ...]
    seconds: float

    @property
    def kept(self) -> int:
        return sum(part.kept for part in self.parts)

    @property
    def removed(self) -> int:
        return sum(part.removed for part in self.parts)

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    def __str__(self) -> str:
        lines = [
            f"{self.removed} actors removed ({self.bytes} bytes), {self.kept} kept, {self.seconds:.3f} s"
        ]
        lines += [
            f"  {part.name}: {part.removed} removed ({part.bytes} bytes), {part.kept} kept"
            for part in self.parts
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Generation:
    """What a part of a store was after one churn (STO-09).

    Attributes:
        number: counts from 1.
        time: when its churn was written. Of the first one of a part that had kept none before, when the next
            one was.
        records: how many records its churn put or removed.
    """

    number: int
    time: datetime
    records: int


@dataclass(frozen=True, slots=True)
class Copied:
    """What ``copy_store`` has copied.

    Attributes:
        parts: how many vats.
        records: how many records.
        bytes: how many bytes, keys and values together.
    """

    parts: int
    records: int
    bytes: int


def copy_store(source: Store, target: Store) -> Copied:
    """Copies all that stands in a store at this moment into another one, of any kind (STO-16).

    Vats may live in the source, and go on. The checksum of each record is verified on the way. Older
    generations are copied too. A copy that is cut off leaves a target that is not complete: whatever is
    asked of it is a StoreError that says so, until it is filled again.

    Args:
        source: the store to copy.
        target: an empty store without live vats.

    Returns:
        What was copied.

    Raises:
        StoreError: the target is not empty, or is just being filled; or one of the stores failed.
        StoreCorruptError: a record of the source is damaged; the target is left empty.
        DeadlockError: this is a turn.
    """
    return Copied(*_copy_store(source, target))


def collection_report(parts: Iterable[PartReport], seconds: float) -> CollectionReport:
    return CollectionReport(tuple(parts), seconds)


def generations(found: Iterable[tuple[int, int, int]]) -> list[Generation]:
    return [
        Generation(number, _EPOCH + timedelta(milliseconds=millis), records)
        for number, millis, records in found
    ]
