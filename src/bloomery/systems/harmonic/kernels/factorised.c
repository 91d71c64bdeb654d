/* Two-stage products for one vector: bfloat16 weights, float32 sums.

   Weights come in panels: 64 neighbouring outputs, or the last 32, for which the weights of input 0 lie side by side,
   then those of input 1 and so on. So memory is read once and in order, the sums of a panel stay in registers, and no
   sum is taken across a register. 32 weights are 16 words whose low halves are outputs 0 to 15 and whose high halves
   are outputs 16 to 31: a shift or a mask makes them float32. A matrix whose outputs are no multiple of 32 is padded
   with zeros. GCC's and clang's vector types: any processor, the widest instructions it has. */

#include <stdint.h>
#include <string.h>

typedef float f32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));

enum { GROUP = 32, WIDEST = 64, AHEAD = 4096 };

/* sums[j] = sum_i x[i] w[i, j] over `groups` times 32 outputs (a constant wherever it is inlined). */
static inline __attribute__((always_inline)) void panel(
    const uint16_t *w, const float *x, float *sums, int64_t inputs, const int groups)
{
    f32x16 total[2 * WIDEST / GROUP] = {{0}};
    for (int64_t i = 0; i < inputs; i++) {
        const f32x16 factor = x[i] - (f32x16){0}; /* in every lane */
        for (int j = 0; j < groups; j++) {
            u32x16 pairs;
            memcpy(&pairs, w, sizeof pairs);
            total[2 * j] += factor * (f32x16)(pairs << 16);
            total[2 * j + 1] += factor * (f32x16)(pairs & 0xffff0000u);
            __builtin_prefetch((const char *)w + AHEAD, 0, 2); /* the processor's own ends at each 4 KiB page */
            w += GROUP;
        }
    }
    memcpy(sums, total, sizeof(float) * GROUP * groups);
}

/* One matrix [outputs inputs] in panels; y has room for outputs rounded up to 32. Returns where the next one begins. */
static const uint16_t *product(const uint16_t *w, const float *x, float *y, int64_t inputs, int64_t outputs)
{
    for (; outputs > GROUP; outputs -= WIDEST, y += WIDEST, w += inputs * WIDEST)
        panel(w, x, y, inputs, 2);
    if (outputs > 0) {
        panel(w, x, y, inputs, 1);
        w += inputs * GROUP;
    }
    return w;
}

/* y = U (V x): V [rank inputs] and U [outputs rank] in panels; inner and y hold multiples of 32. */
void low_rank(const uint16_t *v, const uint16_t *u, const float *x, float *inner, float *y,
              int64_t inputs, int64_t rank, int64_t outputs)
{
    product(v, x, inner, inputs, rank);
    product(u, inner, y, rank, outputs);
}

/* b blocks: h[q] = R_q x[q], R_q [width inputs/b]; (q, f) of h goes to place f b + q; y[p] = L_p h'[p].
   room: width + 32 + b width floats; y has 32 to spare. */
void monarch(const uint16_t *r, const uint16_t *l, const float *x, float *room, float *y,
             int64_t blocks, int64_t inputs, int64_t width, int64_t outputs)
{
    float *features = room, *shuffled = room + (width + GROUP);
    for (int64_t q = 0; q < blocks; q++) {
        r = product(r, x + q * inputs, features, inputs, width);
        for (int64_t f = 0; f < width; f++)
            shuffled[f * blocks + q] = features[f];
    }
    for (int64_t p = 0; p < blocks; p++) /* in this order a block's padding is overwritten by the next */
        l = product(l, shuffled + p * width, y + p * outputs, width, outputs);
}
