"""Which actors of a persistent vat go back to the store when they are not used."""

from __future__ import annotations

from typing import final


@final
class lru:
    """Actors that were not used lately go to sleep: for ``sleep=`` of ``spawn_persistent_vat`` (SLP-01).

    After each churn, while more is awake than may be, actors are put to sleep. Which ones is an approximation
    of "least recently used": a clock goes round the awake actors and takes those that were not used since
    its last round. One that sleeps is a ghost again, as all are when a vat is opened: its behavior is
    released and the refs that it held, its ``Ref`` stays the same object, and its next use reads its record
    from the store. Only an actor that is in the store as it is may sleep, and none during a turn;
    ``docs/sleep.md`` says which ones stay awake.

    Args:
        max_actors: so many actors may be awake after a churn; 0 puts all to sleep.
        max_bytes: so many bytes may be awake, by the size of the stored records. In memory an actor takes
            several times as much.

    Raises:
        TypeError: neither is given, or one is no int.
        ValueError: one is negative.
    """

    __slots__ = ("_max_actors", "_max_bytes")

    def __init__(self, *, max_actors: int | None = None, max_bytes: int | None = None) -> None:
        if max_actors is None and max_bytes is None:
            raise TypeError("give lru(...) a limit: max_actors, max_bytes, or both")
        self._max_actors = _number("max_actors", max_actors)
        self._max_bytes = _number("max_bytes", max_bytes)

    @property
    def max_actors(self) -> int | None:
        """How many actors may be awake; None for any number."""
        return self._max_actors

    @property
    def max_bytes(self) -> int | None:
        """How many bytes of records may be awake; None for any number."""
        return self._max_bytes

    def __repr__(self) -> str:
        return f"lru(max_actors={self._max_actors}, max_bytes={self._max_bytes})"


def _number(name: str, value: int | None) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is a number, not {value!r}")
    if value < 0:
        raise ValueError(f"{name} is at least 0, not {value}")
    return min(value, (1 << 63) - 1)
