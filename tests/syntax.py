"""The syntax tree of a source, for tests that read the code."""

from __future__ import annotations

import ast
import gc


def parse(source: str) -> ast.Module:
    """Without the garbage collector meanwhile: a finalizer whose error is printed reads code itself, and CPython 3.11
    takes that for a fault of its own (SystemError: AST constructor recursion depth mismatch)."""
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        gc.enable()
