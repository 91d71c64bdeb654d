/* Rows W[o, i] = sum_k amplitude[o, k] atom_ok(i) and, from dL/dW, the gradients of all that places the atoms.

   A Gaussian (times a cosine, for Gabor atoms) is evaluated where |u| <= REACH alone, in whole registers. A cosine is
   evaluated at the middle of each block of 32 indices and at the 32 offsets from it; all else is one rotation,
   cos(p + q) = cos p cos q - sin p sin q, so that no error is carried along a row. Angles are turns in float64 until they
   are reduced. What the backward pass makes again is made by the same machine code, never inlined: the same bits. A
   number that is not finite makes its whole row and its own gradients NaN. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef float f32x4 __attribute__((vector_size(16)));
typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x16 __attribute__((vector_size(64), may_alias));
typedef f32x16 unaligned __attribute__((aligned(4), may_alias));
typedef double f64x8 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));

enum { LANES = 16, BLOCK = 2 * LANES };
enum kind { GAUSS, GABOR, COS };

/* Beyond it exp(-u^2 / 2), and u^2 times that, are below 2^-24 of what they are at most. */
static const double REACH = 6.5;
static const double TURN = 6.283185307179586;
static const float EVEN = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded, its parity in the lowest bit */

/* Sixteen steps from `start`, of size `step`. */
struct ramp { f64x8 low, high; };

static inline struct ramp ramp(double start, double step)
{
    const f64x8 lanes = {0, 1, 2, 3, 4, 5, 6, 7};
    return (struct ramp){start + step * lanes, start + step * (lanes + 8)};
}

static inline f32x16 narrowed(struct ramp wide)
{
    const f32x8 low = __builtin_convertvector(wide.low, f32x8), high = __builtin_convertvector(wide.high, f32x8);
#if defined(__has_builtin) && __has_builtin(__builtin_shufflevector)
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
    f32x16 both; /* GCC before 12; a load that two stores have to be waited for */
    memcpy(&both, &low, sizeof low);
    memcpy((char *)&both + sizeof low, &high, sizeof high);
    return both;
#endif
}

/* The part of a turn in [-1/2, 1/2]. */
static inline f64x8 fraction(f64x8 turns)
{
    const double even = 6755399441055744.0; /* 1.5 * 2^52 */
    return turns - ((turns + even) - even);
}

/* 2^x for x <= 0 within 2 units in the last place; 0 below 2^-126. Polynomial: least largest error on [-1/2, 1/2]. */
static inline f32x16 power(f32x16 x)
{
    const f32x16 shifted = x + EVEN, f = x - (shifted - EVEN);
    f32x16 p = f * 1.5353362e-4f + 1.3398874e-3f;
    p = p * f + 9.6184374e-3f;
    p = p * f + 5.5503325e-2f;
    p = p * f + 2.4022648e-1f;
    p = p * f + 6.9314720e-1f;
    p = p * f + 1.0f;
    const i32x16 usual = x >= -126.0f;
    return (f32x16)(((i32x16)((u32x16)p + ((u32x16)shifted << 23))) & usual);
}

/* Cosine and sine of `turns` in [-1/2, 1/2], within 1.5e-7; polynomials as above, in halves of a turn. */
static inline void wave(f32x16 turns, f32x16 *cosine, f32x16 *sine)
{
    const f32x16 halves = turns * 2.0f, shifted = halves + EVEN, q = halves - (shifted - EVEN), square = q * q;
    const u32x16 sign = (u32x16)shifted << 31;
    f32x16 c = square * -2.4420699e-2f + 2.3495393e-1f;
    c = c * square - 1.3352161f;
    c = c * square + 4.0587096f;
    c = c * square - 4.9348022f;
    c = c * square + 1.0f;
    f32x16 s = square * 7.7220127e-2f - 5.9804517e-1f;
    s = s * square + 2.5500314f;
    s = s * square - 5.1677069f;
    s = s * square + 3.1415926f;
    *cosine = (f32x16)((u32x16)c ^ sign);
    *sine = (f32x16)((u32x16)(s * q) ^ sign);
}

static inline float sum(f32x16 all)
{
    f32x8 halves[2];
    memcpy(halves, &all, sizeof halves);
    f32x4 quarters[2];
    halves[0] += halves[1];
    memcpy(quarters, halves, sizeof quarters);
    const f32x4 left = quarters[0] + quarters[1];
    return (left[0] + left[2]) + (left[1] + left[3]);
}

/* What is worked in, per call: a row of W and one of its gradient, both followed by room for a whole register, and the
   values of one atom. */
struct scratch { float *row, *gradient, *value, *second, *distance; };

struct bell { double centre, width, inverse, norm, cycles, turns; int64_t first, registers; };

/* factors: amplitude, centre / unit, log(width / unit), and for Gabor cycles per index step and phase. norm: that of an
   atom as wide as the unit. */
static inline struct bell placed(const float *const *factors, int64_t at, enum kind kind, double unit, double norm,
                                 int64_t inputs)
{
    const double root = exp(-0.5 * factors[2][at]), last = (double)(inputs - 1);
    struct bell bell = {.centre = unit * factors[1][at], .width = unit / (root * root)};
    bell.inverse = 1 / bell.width;
    bell.norm = root * norm;
    double finite = factors[0][at] + bell.centre + factors[2][at];
    if (kind == GABOR) {
        bell.cycles = factors[3][at];
        bell.turns = factors[4][at] * (1 / TURN);
        finite += bell.cycles + bell.turns;
    }
    const double from = bell.centre - REACH * bell.width, to = bell.centre + REACH * bell.width;
    if (!isfinite(finite)) {
        bell.centre = NAN;
        bell.registers = (inputs + LANES - 1) / LANES;
    } else if (from <= last && to >= 0) {
        bell.first = from <= 0 ? 0 : (int64_t)ceil(from);
        const int64_t end = to >= last ? inputs : (int64_t)floor(to) + 1;
        bell.registers = (end - bell.first + LANES - 1) / LANES; /* 0 where it falls between two indices */
    }
    return bell;
}

/* Into value: the bell (Gabor: times its cosine); second: minus the bell times its sine, Gabor only; distance: u. */
static __attribute__((noinline)) void ring(const struct bell *bell, enum kind kind, struct scratch *room)
{
    const float inverse = (float)(bell->inverse < 1e18 ? bell->inverse : 1e18);
    for (int64_t r = 0; r < bell->registers; r++) {
        const struct ramp away = ramp((double)(bell->first + LANES * r) - bell->centre, 1);
        const f32x16 u = narrowed(away) * inverse;
        f32x16 value = power(u * u * -0.72134752f); /* log2(e) / 2 */
        value = isnan(bell->centre) ? u : value;
        if (kind == GABOR) {
            f32x16 cosine, sine;
            const struct ramp turns = {fraction(away.low * bell->cycles + bell->turns),
                                       fraction(away.high * bell->cycles + bell->turns)};
            wave(narrowed(turns), &cosine, &sine);
            *(unaligned *)(room->second + LANES * r) = -(value * sine);
            value *= cosine;
        }
        *(unaligned *)(room->value + LANES * r) = value;
        *(unaligned *)(room->distance + LANES * r) = u;
    }
}

static __attribute__((noinline)) void add(float *row, const float *value, float factor, int64_t registers)
{
    for (int64_t r = 0; r < registers; r++)
        *(unaligned *)(row + LANES * r) += factor * *(const unaligned *)(value + LANES * r);
}

static __attribute__((noinline)) void ring_again(
    const struct bell *bell, enum kind kind, double unit, float amplitude, const struct scratch *room,
    float *const *into, int64_t at)
{
    const float *gradient = room->gradient + bell->first;
    f32x16 zeroth = {0}, first = {0}, second = {0}, turned = {0}, turned_first = {0};
    for (int64_t r = 0; r < bell->registers; r++) {
        const f32x16 g = *(const unaligned *)(gradient + LANES * r), u = *(unaligned *)(room->distance + LANES * r);
        f32x16 moment = g * *(unaligned *)(room->value + LANES * r);
        zeroth += moment;
        moment *= u;
        first += moment;
        second += moment * u;
        if (kind == GABOR) {
            const f32x16 angle = g * *(unaligned *)(room->second + LANES * r);
            turned += angle;
            turned_first += angle * u;
        }
    }
    const double norm = bell->norm, scale = amplitude * norm, whole = sum(zeroth), angle = sum(turned);
    into[0][at] = (float)(norm * whole);
    into[1][at] = (float)(scale * unit * (sum(first) * bell->inverse - angle * TURN * bell->cycles));
    into[2][at] = (float)(scale * (sum(second) - 0.5 * whole));
    if (kind == GABOR) {
        into[3][at] = (float)(scale * TURN * bell->width * sum(turned_first));
        into[4][at] = (float)(scale * angle);
    }
}

/* Of a block, in index steps from its beginning. A row that is shorter has its own. */
static double middle(int64_t inputs)
{
    return 0.5 * (double)(inputs < BLOCK ? inputs : BLOCK);
}

static inline int64_t blocks_of(int64_t inputs) /* in whole registers */
{
    return (inputs + BLOCK * LANES - 1) / (BLOCK * LANES) * LANES;
}

static inline f32x16 reversed(f32x16 x)
{
#if defined(__has_builtin) && __has_builtin(__builtin_shufflevector)
    return __builtin_shufflevector(x, x, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
#else
    f32x16 turned;
    for (int lane = 0; lane < LANES; lane++)
        turned[lane] = x[LANES - 1 - lane];
    return turned;
#endif
}

static inline void turned_to(struct ramp turns, int64_t at, struct scratch *room)
{
    wave(narrowed((struct ramp){fraction(turns.low), fraction(turns.high)}), (f32x16 *)(room->value + at),
         (f32x16 *)(room->second + at));
}

/* Cosines: `value` and `second` hold cosine and sine, first at the BLOCK offsets, then at the middles of the blocks. */
static __attribute__((noinline)) void rotate(double cycles, double turns, int64_t inputs, struct scratch *room)
{
    const double step = cycles / (double)inputs, half = middle(inputs);
    turned_to(ramp(step * (0.5 - half), step), 0, room);
    if (inputs < BLOCK) {
        turned_to(ramp(step * (LANES + 0.5 - half), step), LANES, room);
    } else { /* the other side of the middle */
        *(f32x16 *)(room->value + LANES) = reversed(*(f32x16 *)room->value);
        *(f32x16 *)(room->second + LANES) = -reversed(*(f32x16 *)room->second);
    }
    turns += step * half - 0.5 * cycles;
    for (int64_t block = 0; block < blocks_of(inputs); block += LANES)
        turned_to(ramp(turns + step * BLOCK * (double)block, step * BLOCK), BLOCK + block, room);
}

static __attribute__((noinline)) void add_waves(float factor, int64_t inputs, struct scratch *room)
{
    const int64_t blocks = blocks_of(inputs);
    float *cosines = room->distance, *sines = cosines + blocks;
    for (int64_t block = 0; block < blocks; block += LANES) {
        *(f32x16 *)(cosines + block) = factor * *(f32x16 *)(room->value + BLOCK + block);
        *(f32x16 *)(sines + block) = -factor * *(f32x16 *)(room->second + BLOCK + block);
    }
    f32x16 *row = (f32x16 *)room->row;
    const f32x16 c0 = *(f32x16 *)room->value, c1 = *(f32x16 *)(room->value + LANES);
    const f32x16 s0 = *(f32x16 *)room->second, s1 = *(f32x16 *)(room->second + LANES);
    for (int64_t block = 0; block * BLOCK < inputs; block++) {
        row[2 * block] += cosines[block] * c0 + sines[block] * s0;
        row[2 * block + 1] += cosines[block] * c1 + sines[block] * s1;
    }
}

/* With A, B the gradient's sums over blocks times their cosines and sines: <G, cos> = sum_j A_j cos_j - B_j sin_j, <G, sin>
   = sum_j B_j cos_j + A_j sin_j, and the like weighted by where a block lies; within it, the offset is the lane's own. */
static __attribute__((noinline)) void waves_again(
    float amplitude, double norm, int64_t inputs, const struct scratch *room, float *const *into, int64_t at)
{
    const int64_t blocks = blocks_of(inputs);
    const double step = 1 / (double)inputs, half = middle(inputs);
    const float *cosines = room->value + BLOCK, *sines = room->second + BLOCK;
    float *far_cosines = room->distance, *far_sines = far_cosines + blocks;
    for (int64_t block = 0; block < blocks; block += LANES) {
        const f32x16 x = narrowed(ramp(step * half - 0.5 + step * BLOCK * (double)block, step * BLOCK));
        *(f32x16 *)(far_cosines + block) = x * *(const f32x16 *)(cosines + block);
        *(f32x16 *)(far_sines + block) = x * *(const f32x16 *)(sines + block);
    }
    const f32x16 *gradient = (const f32x16 *)room->gradient;
    f32x16 a[2] = {{0}}, b[2] = {{0}}, far_a[2] = {{0}}, far_b[2] = {{0}};
    for (int64_t block = 0; block * BLOCK < inputs; block++)
        _Pragma("GCC unroll 2") for (int side = 0; side < 2; side++) {
            const f32x16 g = gradient[2 * block + side];
            a[side] += cosines[block] * g;
            b[side] += sines[block] * g;
            far_a[side] += far_cosines[block] * g;
            far_b[side] += far_sines[block] * g;
        }
    f32x16 along = {0}, across = {0}, moment = {0};
    _Pragma("GCC unroll 2") for (int side = 0; side < 2; side++) {
        const f32x16 cosine = *(f32x16 *)(room->value + LANES * side), sine = *(f32x16 *)(room->second + LANES * side);
        const f32x16 x = narrowed(ramp(step * (LANES * side + 0.5 - half), step));
        const f32x16 turned = b[side] * cosine + a[side] * sine;
        along += a[side] * cosine - b[side] * sine;
        across += turned;
        moment += far_b[side] * cosine + far_a[side] * sine + x * turned;
    }
    const double scale = -norm * amplitude;
    into[0][at] = (float)(norm * sum(along));
    into[1][at] = (float)(scale * TURN * sum(moment));
    into[2][at] = (float)(scale * sum(across));
}

/* factors [outputs atoms] each: of bells as `placed` has them; of cosines amplitude, cycles per row, phase. w [outputs
   inputs]. gradient, of w, may be NULL; else `into` is as `factors`. Returns 1 where there is no memory. */
int make_rows(const float *const *factors, const float *gradient, float *w, float *const *into,
              int64_t kind, double unit, int64_t outputs, int64_t inputs, int64_t atoms)
{
    const int64_t size = (inputs + 3 * BLOCK) / LANES * LANES; /* each begins in a cache line of its own */
    const double norm = sqrt(kind == COS ? 2 / (double)inputs : (kind == GABOR ? 2 : 1) / (sqrt(TURN / 2) * unit));
    float *memory = aligned_alloc(sizeof(f32x16), sizeof *memory * (size_t)(5 * size));
    if (!memory)
        return 1;
    memset(memory, 0, sizeof *memory * (size_t)(5 * size));
    struct scratch room = {memory, memory + size, memory + 2 * size, memory + 3 * size, memory + 4 * size};
    for (int64_t o = 0; o < outputs; o++, w += inputs) {
        memset(room.row, 0, sizeof(float) * (size_t)size);
        if (gradient)
            memcpy(room.gradient, gradient + o * inputs, sizeof(float) * (size_t)inputs);
        for (int64_t at = o * atoms; at < (o + 1) * atoms; at++)
            if (kind == COS) {
                rotate(factors[1][at], factors[2][at] * (1 / TURN), inputs, &room);
                add_waves((float)(factors[0][at] * norm), inputs, &room);
                if (gradient)
                    waves_again(factors[0][at], norm, inputs, &room, into, at);
            } else {
                const struct bell bell = placed(factors, at, (enum kind)kind, unit, norm, inputs);
                ring(&bell, (enum kind)kind, &room);
                add(room.row + bell.first, room.value, (float)(factors[0][at] * bell.norm), bell.registers);
                if (gradient)
                    ring_again(&bell, (enum kind)kind, unit, factors[0][at], &room, into, at);
            }
        memcpy(w, room.row, sizeof(float) * (size_t)inputs);
    }
    free(memory);
    return 0;
}
