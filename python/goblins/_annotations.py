"""What an annotation says of a name in a class, also where annotations are texts."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, get_args, get_origin

_FORMS = {"ClassVar": ClassVar, "InitVar": dataclasses.InitVar}


def annotations_of(cls: type) -> dict[str, Any]:
    """The annotations in the body of a class."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    return inspect.get_annotations(cls)


def special_form(cls: type, kind: Any) -> Any:
    """``ClassVar`` or ``InitVar``, if an annotation says one of these; None for a field."""
    if isinstance(kind, str):
        return _in_text(cls, kind)
    if isinstance(kind, dataclasses.InitVar) or kind is dataclasses.InitVar:
        return dataclasses.InitVar
    if kind is ClassVar or get_origin(kind) is ClassVar:
        return ClassVar
    if get_origin(kind) is Annotated:
        return special_form(cls, get_args(kind)[0])
    return None


@contextmanager
def telling_annotations(cls: type) -> Generator[None, None, None]:
    """Where the module ``dataclasses`` would not see a special form, the class has one that it sees.

    That is so for texts with names which it does not look up, and within ``Annotated``.
    """
    kinds = annotations_of(cls)
    forms = {name: special_form(cls, kind) for name, kind in kinds.items()}
    hidden = {
        name: ClassVar if form is ClassVar else dataclasses.InitVar(object)
        for name, form in forms.items()
        if form is not None and (isinstance(kinds[name], str) or get_origin(kinds[name]) is Annotated)
    }
    if not hidden:
        yield
        return
    cls.__annotations__ = {**kinds, **hidden}
    try:
        yield
    finally:
        cls.__annotations__ = kinds


def _in_text(cls: type, text: str) -> Any:
    try:
        return _in_expression(cls, ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _in_expression(cls: type, expression: ast.expr) -> Any:
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        return _in_text(cls, expression.value)
    inner = None
    if isinstance(expression, ast.Subscript):
        inner = expression.slice.elts[0] if isinstance(expression.slice, ast.Tuple) else expression.slice
        expression = expression.value
    found = _named(cls, expression)
    if found is Annotated and inner is not None:
        return _in_expression(cls, inner)
    return found if any(found is form for form in _FORMS.values()) else None


def _named(cls: type, expression: ast.expr) -> Any:
    """What a name stands for in the module of a class; if it stands for nothing there, by the name alone."""
    if isinstance(expression, ast.Name):
        module = sys.modules.get(cls.__module__)
        found = getattr(module, expression.id, None)
        return _FORMS.get(expression.id) if found is None else found
    if isinstance(expression, ast.Attribute):
        found = getattr(_named(cls, expression.value), expression.attr, None)
        return _FORMS.get(expression.attr) if found is None else found
    return None
