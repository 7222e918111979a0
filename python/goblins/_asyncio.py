"""Waiting for promises in asyncio: any loop, any thread."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from goblins._goblins import Promise


def wait_for(promise: Promise[Any]) -> Generator[Any, None, Any]:
    """Waits in the running loop; wake-ups come by ``call_soon_threadsafe``."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def transfer(value: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    def settled(value: Any, error: BaseException | None) -> None:
        # A loop that was closed has nobody left who waits.
        if not loop.is_closed():
            loop.call_soon_threadsafe(transfer, value, error)

    promise._subscribe(settled)
    return (yield from future)
