"""Keeps torch's compiler unloaded where nothing is compiled.

torch wraps what must never be compiled (methods of its optimisers, modes that watch operations) in a function that
imports torch._dynamo when it is first called, only to switch it off for that call: more than a second, and some 90 MB,
in every process that trains or counts (torch 2.13). Called from outside of compiled code, as here, the wrapped function
does the same.
"""

from __future__ import annotations


def spare(owner: type, *names: str) -> None:
    """Let these methods of one of torch's classes run without the compiler. A torch that wraps them otherwise loads it,
    as before."""
    for name in names:
        inner = getattr(vars(owner).get(name), "__wrapped__", None)
        if inner is not None:
            vars(inner).setdefault("__dynamo_disable", inner)  # where torch._compile keeps what it would import
