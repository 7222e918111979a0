"""Names that are stored: text that has a UTF-8."""

from __future__ import annotations

from typing import Any


def checked(what: str, text: Any) -> str:
    """The text, if it can be stored.

    Raises:
        TypeError: it is no str.
        ValueError: it has lone surrogates.
    """
    if not isinstance(text, str):
        raise TypeError(f"{what} is a str, not {text!r}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} is text without lone surrogates, not {text!r}") from None
    return text
