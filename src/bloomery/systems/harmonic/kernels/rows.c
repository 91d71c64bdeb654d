/* Rows made of atoms, for one vector: each atom is four numbers of a table, weighted and summed. And the table that the
   scale-space form looks them up in: the vector blurred by Gaussians of several widths.

   An atom is the table's numbers i, i + 1, i + step, i + step + 1 and four bfloat16 weights. With step 2 and the vector
   itself as the table it is four neighbouring taps; with step = levels it is a bilinear look-up between two positions
   (rows of the table) and two scales (columns). A row's atoms come in fours: eight words, whose low halves are the
   weights of the first two atoms and whose high halves are those of the other two. */

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef double f64x4 __attribute__((vector_size(32)));
typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x8 __attribute__((vector_size(32)));

enum { AHEAD = 2048, LEVELS = 8, FOUR = 4 };

static inline double pair(const float *place) /* two floats, moved as one */
{
    double both;
    memcpy(&both, place, sizeof both);
    return both;
}

static inline f32x8 corners(const float *first, const float *second, int64_t step)
{
    return (f32x8)(f64x4){pair(first), pair(first + step), pair(second), pair(second + step)};
}

static inline __attribute__((always_inline)) void rows(
    const uint16_t *where, const uint16_t *weights, const float *table, float *y,
    int64_t outputs, int64_t fours, const int64_t step)
{
    for (int64_t o = 0; o < outputs; o++) {
        f32x8 one = {0}, two = {0};
        for (int64_t k = 0; k < fours; k++) {
            u32x8 words;
            memcpy(&words, weights, sizeof words);
            one += corners(table + where[0], table + where[1], step) * (f32x8)(words << 16);
            two += corners(table + where[2], table + where[3], step) * (f32x8)(words & 0xffff0000u);
            __builtin_prefetch(weights + AHEAD, 0, 2);
            where += FOUR;
            weights += 4 * FOUR;
        }
        __builtin_prefetch(where + AHEAD, 0, 2);
        one += two;
        y[o] = ((one[0] + one[1]) + (one[2] + one[3])) + ((one[4] + one[5]) + (one[6] + one[7]));
    }
}

void taps(const uint16_t *where, const uint16_t *weights, const float *x, float *y, int64_t outputs, int64_t fours)
{
    rows(where, weights, x, y, outputs, fours, 2);
}

void look_ups(const uint16_t *where, const uint16_t *weights, const float *table, float *y,
              int64_t outputs, int64_t fours, int64_t step)
{
    if (step == LEVELS)
        rows(where, weights, table, y, outputs, fours, LEVELS);
    else
        rows(where, weights, table, y, outputs, fours, step);
}

/* One step of sixteen recursions z <- p z + x, and the real part of c z: the first eight are those of the slow pole of
   eight widths, the others those of the fast one. `before`: the part without x, which is what the backward pass adds. */
struct poles { f32x16 p_real, p_imaginary, c_real, c_imaginary; };
struct state { f32x16 real, imaginary; };

static inline void add_poles(float *out, f32x16 both)
{
    f32x8 halves[2], there;
    memcpy(halves, &both, sizeof both);
    memcpy(&there, out, sizeof there);
    there += halves[0] + halves[1];
    memcpy(out, &there, sizeof there);
}

static inline struct state turned(const struct poles *poles, struct state z)
{
    return (struct state){poles->p_real * z.real - poles->p_imaginary * z.imaginary,
                          poles->p_real * z.imaginary + poles->p_imaginary * z.real};
}

static inline f32x16 shown(const struct poles *poles, struct state z)
{
    return poles->c_real * z.real - poles->c_imaginary * z.imaginary;
}

/* table[n, l] = sum_m x[m] G((n - m) / widths[l]) / (widths[l] sqrt(2 pi)), columns 8 at a time: Deriche's sum of two
   damped waves, exact at both ends because the waves of the two directions are added, not chained.
   constants[8]: per wave the real and imaginary part of its amplitude, its decay and its frequency. */
void pyramid(const float *x, const double *widths, const double *constants, float *table,
             int64_t positions, int64_t levels)
{
    memset(table, 0, sizeof(float) * positions * levels);
    for (int64_t first = 0; first < levels; first += LEVELS) {
        struct poles poles;
        for (int lane = 0; lane < 2 * LEVELS; lane++) {
            const double width = widths[first + lane % LEVELS], *wave = constants + 4 * (lane / LEVELS);
            const double radius = exp(-wave[2] / width), angle = wave[3] / width;
            const double area = width * sqrt(2 * 3.14159265358979323846);
            poles.p_real[lane] = (float)(radius * cos(angle));
            poles.p_imaginary[lane] = (float)(-radius * sin(angle));
            poles.c_real[lane] = (float)(wave[0] / area);
            poles.c_imaginary[lane] = (float)(wave[1] / area);
        }
        struct state past = {{0}}, future = {{0}};
        float *up = table + first, *down = table + first + (positions - 1) * levels;
        for (int64_t n = 0; n < positions; n++, up += levels, down -= levels) {
            past = turned(&poles, past);
            past.real += x[n];
            add_poles(up, shown(&poles, past));
            future = turned(&poles, future);
            add_poles(down, shown(&poles, future));
            future.real += x[positions - 1 - n];
        }
    }
}
