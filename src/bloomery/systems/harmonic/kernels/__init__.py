"""Fast paths of the harmonic bases, each beside the plain torch that it equals.

| file           | what it does                                                         | C source     |
|----------------|----------------------------------------------------------------------|--------------|
| factorised.py  | low-rank and Monarch decoding, two stages in one call                | factorised.c |
| scale_space.py | rows of Gaussians as look-ups in the blurred input, with gradients   |              |
| rows.py        | decoding with such rows, and with narrow ones as four taps an atom   | rows.c       |
| atoms.py       | rows of Gaussians, Gabor atoms and cosines, with gradients: training | atoms.c      |
| sine.py        | the sine basis' matrix: phase, sine and gain in one pass             | sine.c       |
| on_gpu.py      | low-rank, Monarch and sine decoding in Triton                        |              |
| rows_on_gpu.py | scale_space.py's decoding and atoms.py's rows in Triton              |              |
| chosen.py      | whether a GPU is served by the two, for which proof.py asks it       |              |

They take plain tensors and know no layer. Weights of atoms generated per product lose to a stored matrix everywhere
(spec 1.4, 2.5), so there is no such kernel. C is compiled on first use (model.native); without a compiler torch does
the same, and the results differ by rounding. Layers use factorised.py, atoms.py and the look-ups of rows.py, on a GPU
their Triton forms, which were never run on one: four taps are another function than the layer that was trained, and the
sine matrix gains too little. Overlap attention, matching pursuit and level 3 have none (docs/performance.md).
"""
