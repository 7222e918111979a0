"""What a registry waits for."""

from __future__ import annotations

from typing import NamedTuple


class PendingReference(NamedTuple):
    """A reference to an actor of a vat that is not open: its promise settles when it is (REG-05)."""

    vat: str
    """The name of the vat that is not there; its id, if it was never there."""
    slot: int
    """The actor's number in that vat."""
    asked_by: str
    """The name of the vat whose state has the reference."""
    id: str
    """The permanent id of the vat that is not there."""
