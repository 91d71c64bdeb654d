/* W[o, i] = gain[o] sin(sum_r U[o, r] V[r, i]): phase, sine and gain of a tile while it is in registers, so that W is
   written once and nothing else of its size exists. U comes multiplied by omega. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef float f32x16 __attribute__((vector_size(64)));
typedef f32x16 unaligned __attribute__((aligned(4), may_alias));
typedef uint32_t u32x16 __attribute__((vector_size(64)));

enum { LANES = 16, REGISTERS = 4, COLUMNS = LANES * REGISTERS, ROWS = 6, BLOCK = 48 };

static inline f32x16 everywhere(float value)
{
    return value - (f32x16){0};
}

/* Within 2 units in the last place while |x| < 2^15: x - n pi in three parts, and a polynomial on [-pi/2, pi/2]
   (Shibata and Petrogalli, SLEEF, IEEE TPDS 2020: sinf_u35). */
static inline f32x16 sine(f32x16 x)
{
    const f32x16 shifted = x * 0.31830988618379067f + 12582912.0f; /* n stands in the low bits of the mantissa */
    const f32x16 n = shifted - 12582912.0f;
    f32x16 r = x - n * 3.140625f;
    r -= n * 9.6702575683593750e-4f;
    r -= n * 6.2771141529083252e-7f;
    r -= n * 1.2154201256553420e-10f;
    const f32x16 square = r * r;
    f32x16 p = square * 2.6083159809786593541503e-06f - 0.0001981069071916863322258f;
    p = p * square + 0.00833307858556509017944336f;
    p = p * square - 0.166666597127914428710938f;
    p = p * square * r + r;
    return (f32x16)((u32x16)p ^ ((u32x16)shifted << 31));
}

/* `rows` rows from u, 64 columns of which `columns` are wanted; v: [rank 64], side by side. */
static inline __attribute__((always_inline)) void tile(
    const float *u, const float *v, const float *gain, float *w, int64_t rank, int64_t stride, int64_t columns,
    const int rows)
{
    f32x16 phase[ROWS][REGISTERS] = {{{0}}}; /* in registers: every loop over it is unrolled, its address never taken */
    for (int64_t r = 0; r < rank; r++, v += COLUMNS)
        _Pragma("GCC unroll 4") for (int j = 0; j < REGISTERS; j++) {
            const f32x16 column = *(const unaligned *)(v + LANES * j);
            _Pragma("GCC unroll 6") for (int o = 0; o < rows; o++)
                phase[o][j] += everywhere(u[o * rank + r]) * column;
        }
    _Pragma("GCC unroll 6") for (int o = 0; o < rows; o++) {
        f32x16 done[REGISTERS];
        _Pragma("GCC unroll 4") for (int j = 0; j < REGISTERS; j++)
            done[j] = sine(phase[o][j]) * everywhere(gain[o]);
        if (columns >= COLUMNS)
            memcpy(w + o * stride, done, sizeof done);
        else
            memcpy(w + o * stride, done, sizeof(float) * columns);
    }
}

/* U [outputs rank], V [rank inputs], W [outputs inputs]. Returns 1 where there is no memory for a copy of V. */
int sine_matrix(const float *u, const float *v, const float *gain, float *w,
                int64_t outputs, int64_t rank, int64_t inputs)
{
    const int64_t panels = (inputs + COLUMNS - 1) / COLUMNS, size = rank * COLUMNS;
    float *copy = calloc((size_t)(panels * size), sizeof *copy);
    if (!copy)
        return 1;
    for (int64_t r = 0; r < rank; r++)
        for (int64_t i = 0; i < inputs; i++)
            copy[i / COLUMNS * size + r * COLUMNS + i % COLUMNS] = v[r * inputs + i];
    for (int64_t block = 0; block < outputs; block += BLOCK)
        for (int64_t p = 0; p < panels; p++) {
            const int64_t end = block + BLOCK < outputs ? block + BLOCK : outputs, first = p * COLUMNS;
            int64_t o = block;
            for (; o + ROWS <= end; o += ROWS)
                tile(u + o * rank, copy + p * size, gain + o, w + o * inputs + first, rank, inputs, inputs - first, ROWS);
            for (; o < end; o++)
                tile(u + o * rank, copy + p * size, gain + o, w + o * inputs + first, rank, inputs, inputs - first, 1);
        }
    free(copy);
    return 0;
}
