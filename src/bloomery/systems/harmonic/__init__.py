"""Harmonic: linear weights generated from few sine components, W = diag(gain) sin(omega U V).

Refuses other bases than `sine` for now. The form is that of Ji et al., ICLR 2025 (arXiv 2403.19243).
"""

from bloomery.engine.discover import System

SYSTEM = System(
    name="harmonic",
    summary="linear weights generated from few harmonic components",
    state="first",
    config="bloomery.systems.harmonic.config:HarmonicConfig",
    build="bloomery.systems.harmonic.model:build",
    kinds={
        "self_play": "bloomery.systems.harmonic.self_play:kind",
        "capture": "bloomery.systems.harmonic.capture:kind",
        "gap_extraction": "bloomery.systems.harmonic.gap_extraction:kind",
        "packets": "bloomery.systems.harmonic.specialists:Packets",
        "cascade": "bloomery.systems.harmonic.cascade:Cascade",
    },
)
