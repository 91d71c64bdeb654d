"""Harmonic: linear weights generated from few components of a basis, by default W = diag(gain) sin(omega U V).

Bases are in bases/, how many numbers each stores in sizes.py, and what is measured of them in README.md.
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
        "k0_blend": "bloomery.systems.harmonic.k0_blend:K0Blend",
        "from_dense": "bloomery.systems.harmonic.from_dense_stage:FromDense",
        "to_l2": "bloomery.systems.harmonic.to_level:ToL2",
        "to_l3": "bloomery.systems.harmonic.to_level:ToL3",
    },
    inits={
        "k0": "bloomery.systems.harmonic.k0:K0",
        "statistics": "bloomery.systems.harmonic.statistics:Statistics",
        "blend_check": "bloomery.systems.harmonic.blend_check:BlendCheck",
    },
)
