/* Counting into a hashed table, and looking up a frozen one: the hot loops of store.py and attractors.py.

   A table is an array of 16-byte places: key (0: empty), times read, adjusted count. A key is sought from its own place
   on, one after another. Keys to come are fetched ahead: a place is in no cache. */

#include <stdint.h>

typedef struct {
    uint64_t key;
    uint32_t raw, adjusted;
} place_t;

enum { AHEAD = 24 };

static inline uint64_t first(uint64_t key, uint64_t capacity)
{
    return (((key * 0x9FB21C651E98DF25u) >> 32) * capacity) >> 32;
}

static inline uint64_t seek(const place_t *places, uint64_t capacity, uint64_t key)
{
    uint64_t at = first(key, capacity);
    while (places[at].key && places[at].key != key)
        if (++at == capacity)
            at = 0;
    return at;
}

/* Count the key of each (context, target) whose history is long enough. One that was not there is one more longer context
   of its key in the table below, if there is a table below. made: how many were counted, how many were not there. */
void store_count(place_t *places, uint64_t capacity, const uint64_t *contexts, const uint64_t *targets,
                 const int64_t *reach, int64_t needed, place_t *below, uint64_t below_capacity,
                 const uint64_t *below_contexts, int64_t count, int64_t *made)
{
    enum { BLOCK = 32 };
    int64_t fresh[BLOCK];
    for (int64_t begin = 0; begin < count; begin += BLOCK) {
        const int64_t stop = begin + BLOCK < count ? begin + BLOCK : count;
        const int64_t ahead = stop + BLOCK < count ? stop + BLOCK : count;
        for (int64_t i = stop; i < ahead; i++)
            __builtin_prefetch(places + first(contexts[i] | targets[i], capacity), 1);
        int64_t size = 0;
        for (int64_t i = begin; i < stop; i++) {
            if (reach[i] < needed)
                continue;
            const uint64_t key = contexts[i] | targets[i];
            place_t *place = places + seek(places, capacity, key);
            made[0]++;
            place->raw++;
            if (!place->key) {
                place->key = key;
                fresh[size++] = i;
                if (below)
                    __builtin_prefetch(below + first(below_contexts[i] | targets[i], below_capacity), 1);
            }
        }
        made[1] += size;
        for (int64_t i = 0; below && i < size; i++) {
            const uint64_t key = below_contexts[fresh[i]] | targets[fresh[i]];
            place_t *place = below + seek(below, below_capacity, key);
            if (place->key)
                place->adjusted++;
        }
    }
}

/* All of a table into another, empty one. In the order of their places, which keys keep: both are gone through once. */
void store_move(const place_t *places, uint64_t capacity, place_t *into, uint64_t room)
{
    for (uint64_t i = 0; i < capacity; i++)
        if (places[i].key)
            into[seek(into, room, places[i].key)] = places[i];
}

void store_place(place_t *places, uint64_t capacity, const place_t *items, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (i + AHEAD < count)
            __builtin_prefetch(places + first(items[i + AHEAD].key, capacity), 1);
        places[seek(places, capacity, items[i].key)] = items[i];
    }
}

static inline int64_t context_of(const uint64_t *contexts, const int64_t *directory, int64_t shift, uint64_t wanted)
{
    int64_t low = directory[wanted >> shift], high = directory[(wanted >> shift) + 1];
    while (low < high && contexts[low] < wanted)
        low++;
    return low < high && contexts[low] == wanted ? low : -1;
}

static inline int64_t entry_of(const uint64_t *keys, int64_t low, int64_t stop, uint64_t key)
{
    int64_t high = stop;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (keys[middle] < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low < stop && keys[low] == key ? low : -1;
}

/* contexts: sorted; directory[b]: the first context whose upper bits are b or more; starts: of each context its first
   entry; keys: sorted. Of each (wanted, target): alpha of its entry or 0; gamma and total of its context, or 1 and 0. */
void store_step(const uint64_t *contexts, const int64_t *directory, int64_t shift, const int64_t *starts,
                const uint64_t *keys, const double *alpha, const double *gamma, const int64_t *totals,
                const uint64_t *wanted, const int64_t *targets, int64_t count,
                double *share, double *left, int64_t *total)
{
    enum { BLOCK = 32 };
    int64_t at[BLOCK];
    for (int64_t begin = 0; begin < count; begin += BLOCK) {
        const int64_t size = count - begin < BLOCK ? count - begin : BLOCK;
        const int64_t ahead = count - begin - size < BLOCK ? count - begin - size : BLOCK;
        for (int64_t i = 0; i < ahead; i++)
            __builtin_prefetch(directory + (wanted[begin + size + i] >> shift));
        for (int64_t i = 0; i < size; i++)
            __builtin_prefetch(contexts + directory[wanted[begin + i] >> shift]);
        for (int64_t i = 0; i < size; i++) {
            at[i] = context_of(contexts, directory, shift, wanted[begin + i]);
            if (at[i] >= 0) {
                __builtin_prefetch(starts + at[i]);
                __builtin_prefetch(gamma + at[i]);
                __builtin_prefetch(totals + at[i]);
            }
        }
        for (int64_t i = 0; i < size; i++)
            if (at[i] >= 0)
                __builtin_prefetch(keys + (starts[at[i]] + starts[at[i] + 1]) / 2);
        for (int64_t i = 0; i < size; i++) {
            const int64_t place = begin + i, known = at[i];
            const int64_t entry = known < 0 ? -1 : entry_of(keys, starts[known], starts[known + 1],
                                                            wanted[place] | (uint64_t)targets[place]);
            share[place] = entry < 0 ? 0.0 : alpha[entry];
            left[place] = known < 0 ? 1.0 : gamma[known];
            total[place] = known < 0 ? 0 : totals[known];
        }
    }
}
