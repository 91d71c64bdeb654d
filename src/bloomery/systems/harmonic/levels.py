"""How many numbers the levels above the first store, in closed form. No torch here.

Of a linear with `inputs` N and `outputs` M, R = meta_components, K = ATOMS, H = R meta-Gaussians a field, t = TILE:

| level, form          | W [o i]                                             | a linear   | shared by all              |
|----------------------|-----------------------------------------------------|------------|----------------------------|
| 2 shared_coordinates | gain_o sin(omega C_M T C_N^T)                       | R^2 + M    | R a width                  |
| 2 low_rank           | gain_o C_M T C_N^T: the same without the sine       | R^2 + M    | the same                   |
| 2 literal            | K Gaussians a row, their fields H Gaussians over o  | 9 K H + 2K | nothing                    |
| 3 of the first two   | T = sum_j cos(pi j (l + 1/2) / L) B_j, j < J        | M          | the same, and J R^2 a kind |
| 4                    | decoded coarse to fine from a latent (decoded.py)   | R + M      | 4 R^2 + t^2 R              |

A kind is query, key, value, output, gate, up or down. `low_rank` is the control of the same size, to the last number:
low-rank factors of its own for every linear would have less than one component each at these sizes.
"""

from __future__ import annotations

import math

from bloomery.measure import Group

ATOMS = 10
"""Gaussians in a row of the literal form (the seed's 740 numbers for a matrix: 9 * 10 * 8 + 20)."""
TILE = 4
"""Rows and columns of W that one leaf of level 4 stands for."""


def depth_wave(order: int, layer: int, layers: int) -> float:
    """cos(pi j (l + 1/2) / L), of the discrete cosine transform (DCT-II) over depth."""
    return math.cos(math.pi * order * (layer + 0.5) / layers)


def linear_group(level: int, form: str, components: int, inputs: int, outputs: int) -> Group:
    """What one linear stores of its own, and its operations per token."""
    if form == "literal":
        stored = 9 * ATOMS * components + 2 * ATOMS
    else:
        stored = outputs + {2: components**2, 3: 0, 4: components}[level]
    flops = 2.0 * inputs * outputs
    if form == "low_rank":
        flops = 2.0 * components * (inputs + components + outputs)
    return Group(stored, stored, flops_per_token=flops)


def shared_group(level: int, form: str, components: int, widths: set[int], kinds: int, depth_harmonics: int) -> Group:
    """What all linears share: a table of coordinates for each width, and at level 3 the harmonics of each kind; at
    level 4 the decoder."""
    if level == 4:
        stored = 4 * components**2 + TILE**2 * components
        return Group(stored, stored)
    if form == "literal":
        return Group(0, 0)
    stored = components * sum(widths) + (kinds * depth_harmonics * components**2 if level == 3 else 0)
    return Group(stored, stored)
