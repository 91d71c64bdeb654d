"""Holographic: a memory that is written by counting and reorganised in sleep, and the theory that it grew from.

What is measured of it stands in README.md.
"""

from bloomery.engine.discover import System

SYSTEM = System(
    name="holographic",
    summary="a memory without gradients: contexts, attractors, consolidation in sleep",
    state="first",
    common_kinds={
        "consolidate": "bloomery.systems.holographic.kinds:Consolidate",
        "calibrate": "bloomery.systems.holographic.kinds:Calibrate",
    },
    kinds={"theory": "bloomery.systems.holographic.kinds:Theory"},
    scorers={"holographic": "bloomery.systems.holographic.variants:open_model"},
)
