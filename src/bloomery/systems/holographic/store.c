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

/* Count each key once more; fresh[i]: it was not there. Returns how many were not. */
int64_t store_add(place_t *places, uint64_t capacity, const uint64_t *keys, int64_t count, uint8_t *fresh)
{
    int64_t made = 0;
    for (int64_t i = 0; i < count; i++) {
        if (i + AHEAD < count)
            __builtin_prefetch(places + first(keys[i + AHEAD], capacity), 1);
        place_t *place = places + seek(places, capacity, keys[i]);
        fresh[i] = place->key == 0;
        made += fresh[i];
        place->key = keys[i];
        place->raw++;
    }
    return made;
}

/* One more different context before each key that is marked. */
void store_bump(place_t *places, uint64_t capacity, const uint64_t *keys, const uint8_t *marked, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (i + AHEAD < count && marked[i + AHEAD])
            __builtin_prefetch(places + first(keys[i + AHEAD], capacity), 1);
        if (marked[i]) {
            place_t *place = places + seek(places, capacity, keys[i]);
            if (place->key)
                place->adjusted++;
        }
    }
}

void store_place(place_t *places, uint64_t capacity, const place_t *items, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (i + AHEAD < count)
            __builtin_prefetch(places + first(items[i + AHEAD].key, capacity), 1);
        places[seek(places, capacity, items[i].key)] = items[i];
    }
}

/* contexts: sorted; directory[b]: the first context whose upper bits are b or more; starts: of each context its first
   entry; keys: sorted. at[i]: the place of the context, or -1; entry[i]: of (context, target), or -1. */
void store_find(const uint64_t *contexts, const int64_t *directory, int64_t shift, const int64_t *starts,
                const uint64_t *keys, const uint64_t *wanted, const int64_t *targets, int64_t count,
                int64_t *at, int64_t *entry)
{
    for (int64_t i = 0; i < count; i++) {
        if (i + 2 * AHEAD < count)
            __builtin_prefetch(directory + (wanted[i + 2 * AHEAD] >> shift));
        if (i + AHEAD < count)
            __builtin_prefetch(contexts + directory[wanted[i + AHEAD] >> shift]);
        int64_t low = directory[wanted[i] >> shift], high = directory[(wanted[i] >> shift) + 1];
        while (low < high && contexts[low] < wanted[i])
            low++;
        at[i] = low < high && contexts[low] == wanted[i] ? low : -1;
        if (at[i] >= 0)
            __builtin_prefetch(starts + low);
    }
    for (int64_t i = 0; i < count; i++) {
        entry[i] = -1;
        if (at[i] < 0)
            continue;
        if (i + AHEAD < count && at[i + AHEAD] >= 0)
            __builtin_prefetch(keys + starts[at[i + AHEAD]]);
        const uint64_t key = wanted[i] | (uint64_t)targets[i];
        int64_t low = starts[at[i]], high = starts[at[i] + 1];
        while (low < high) {
            int64_t middle = low + (high - low) / 2;
            if (keys[middle] < key)
                low = middle + 1;
            else
                high = middle;
        }
        if (low < starts[at[i] + 1] && keys[low] == key)
            entry[i] = low;
    }
}
