"""Patches: {dotted path: value}, applied to plain dictionaries and never in place.

`patched` changes a stage's settings. `apply_patch` applies a rule of one stage to the whole plan: keys of that stage's
config, or `stages.ID.config.KEY` and `stages.ID.seeds` of any. `set_path` is what a plan's `set` and `--set` use: any
key of the plan, stages by their id, list items by their number. A path through a value that holds no keys is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from bloomery.errors import PlanError, nearest
from bloomery.plan.yaml_text import KeyPath


def patched(config: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with every path of `patch` set. Raises PlanError whose `where` is the path."""
    out = copy.deepcopy(dict(config))
    for path, value in patch.items():
        _assign(out, _segments(path), copy.deepcopy(value), path)
    return out


def apply_patch(raw: Mapping[str, Any], stage_id: str, patch: Mapping[str, Any]) -> dict[str, Any]:
    """The plan `raw` with a rule of stage `stage_id` applied. Raises PlanError whose `where` is the path."""
    out = copy.deepcopy(dict(raw))
    for path, value in patch.items():
        target, keys = _target(out, stage_id, path)
        _assign(target, keys, copy.deepcopy(value), path)
    return out


def set_path(raw: dict[str, Any], path: str, value: Any) -> KeyPath:
    """Set one value of the whole plan in place; returns where it went. Raises PlanError whose `where` is the path."""
    segments = _segments(path)
    if segments[0] != "stages":
        return _assign(raw, segments, value, path, dotted_below_set=True)
    found = locate_stage(raw, segments[1]) if len(segments) > 1 else None
    if found is None:
        ids = stage_ids(raw)
        what = f"no stage '{segments[1]}'" if len(segments) > 1 else "no stage named"
        hint = nearest(segments[1], ids) if len(segments) > 1 else ""
        raise PlanError(path, what, "stages.ID.KEY", hint)
    prefix, stage = found
    if len(segments) == 2:
        raise PlanError(path, "a whole stage", f"one of its keys, such as stages.{segments[1]}.config.KEY")
    return (*prefix, *_assign(stage, segments[2:], value, path, dotted_below_set=True))


def locate_stage(raw: Mapping[str, Any], stage_id: str) -> tuple[KeyPath, dict[str, Any]] | None:
    """The key path and the dictionary of a stage, inside loops too."""
    stages: Any = raw.get("stages")
    listed: list[Any] = stages if isinstance(stages, list) else []
    for index, stage in enumerate(listed):
        if not isinstance(stage, dict):
            continue
        if stage.get("id") == stage_id:
            return ("stages", index), stage
        inner = locate_stage(stage, stage_id)
        if inner is not None:
            return ("stages", index, *inner[0]), inner[1]
    return None


def stage_ids(raw: Mapping[str, Any]) -> list[str]:
    stages = raw.get("stages")
    out: list[str] = []
    for stage in stages if isinstance(stages, list) else ():
        if isinstance(stage, dict):
            out += [stage["id"]] if isinstance(stage.get("id"), str) else []
            out += stage_ids(stage)
    return out


def patched_stage(stage_id: str, path: str) -> tuple[str, str, str]:
    """(stage, `config` or `seeds`, path below config) that a rule's path of stage `stage_id` reaches.

    Raises PlanError where a path that begins with `stages.` is neither of the two.
    """
    segments = _segments(path)
    if segments[0] != "stages":
        return stage_id, "config", path
    if len(segments) == 3 and segments[2] == "seeds":
        return segments[1], "seeds", ""
    if len(segments) >= 4 and segments[2] == "config":
        return segments[1], "config", ".".join(segments[3:])
    raise PlanError(path, "a path that a rule cannot set", "KEY of this stage, stages.ID.config.KEY or stages.ID.seeds")


def covers(path: str, below: str) -> bool:
    """Whether setting `path` decides `below`."""
    return below == path or below.startswith(path + ".")


def _target(raw: dict[str, Any], stage_id: str, path: str) -> tuple[dict[str, Any], list[str]]:
    owner, what, below = patched_stage(stage_id, path)
    found = locate_stage(raw, owner)
    if found is None:
        raise PlanError(path, f"no stage '{owner}'", "the id of a stage", nearest(owner, stage_ids(raw)))
    if what == "seeds":
        return found[1], ["seeds"]
    config = found[1].setdefault("config", {})
    if not isinstance(config, dict):
        raise PlanError(path, f"the config of '{owner}' holds no keys", "a mapping")
    return config, below.split(".")


def _segments(path: str) -> list[str]:
    segments = path.split(".")
    if not all(segments):
        raise PlanError(path, f"'{path}' is not a path", "keys joined by dots, such as optimizer.lr")
    return segments


def _assign(
    root: dict[str, Any], segments: list[str], value: Any, path: str, *, dotted_below_set: bool = False
) -> KeyPath:
    """Set root[segments...]. In the whole plan what follows a `set` is one key, as patches have dotted keys."""
    node: Any = root
    out: list[str | int] = []
    for index, segment in enumerate(segments[:-1]):
        if dotted_below_set and segment == "set" and isinstance(node, dict):
            segments = [*segments[: index + 1], ".".join(segments[index + 1 :])]
        key = _key(node, segment, segments[:index], path)
        out.append(key)
        below: Any = node[key] if isinstance(node, list) else node.get(key)
        if below is None:
            below = node[key] = {}
        if not isinstance(below, dict | list):
            at = ".".join(segments[: index + 1])
            raise PlanError(path, f"{at} is {below!r} and holds no keys", f"a path that ends at {at}")
        node = below
        if len(segments) == index + 2:
            break
    key = _key(node, segments[-1], segments[:-1], path)
    node[key] = value
    return (*out, key)


def _key(node: Any, segment: str, before: list[str], path: str) -> Any:
    """The segment as a key of a mapping, or as a number of a list."""
    if not isinstance(node, list):
        return segment
    if segment.isdecimal() and int(segment) < len(node):
        return int(segment)
    expected = f"a number from 0 to {len(node) - 1}" if node else "another path: the list is empty"
    raise PlanError(path, f"'{segment}' is no item of {'.'.join(before)}", expected)
