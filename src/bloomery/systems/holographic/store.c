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

/* The place of a key, or the empty one where it would be. */
#define SEEK(places, capacity, wanted)                                                                                 \
    ({                                                                                                                 \
        uint64_t at_ = first(wanted, capacity);                                                                        \
        while ((places)[at_].key && (places)[at_].key != (wanted))                                                     \
            if (++at_ == (capacity))                                                                                   \
                at_ = 0;                                                                                               \
        (places) + at_;                                                                                                \
    })

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
            place_t *place = SEEK(places, capacity, key);
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
            place_t *place = SEEK(below, below_capacity, key);
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
            *SEEK(into, room, places[i].key) = places[i];
}

/* What a table holds, parted by its keys without their lower `shift` bits. ends: 0 in all of 2^(64 - shift) + 1 places;
   becomes where each part ends. */
void store_parted(const place_t *places, uint64_t capacity, int64_t shift, int64_t *ends, int64_t count, place_t *held)
{
    for (uint64_t i = 0; i < capacity; i++)
        if (places[i].key)
            ends[(places[i].key >> shift) + 1]++;
    for (int64_t i = 1; i < count; i++)
        ends[i] += ends[i - 1];
    for (uint64_t i = 0; i < capacity; i++)
        if (places[i].key)
            held[ends[places[i].key >> shift]++] = places[i];
}

/* Of each key its counts, or zeros. */
void store_find(const place_t *places, uint64_t capacity, const uint64_t *keys, int64_t count, int64_t *raw,
                int64_t *adjusted)
{
    for (int64_t i = 0; i < count; i++) {
        if (i + AHEAD < count)
            __builtin_prefetch(places + first(keys[i + AHEAD], capacity));
        const place_t *place = SEEK(places, capacity, keys[i]);
        raw[i] = place->raw, adjusted[i] = place->adjusted;
    }
}

void store_ordered(const place_t *held, const int64_t *order, int64_t count, uint64_t *keys, int64_t *raw,
                   int64_t *adjusted)
{
    for (int64_t i = 0; i < count; i++) {
        if (i + AHEAD < count)
            __builtin_prefetch(held + order[i + AHEAD]);
        const place_t *item = held + order[i];
        keys[i] = item->key, raw[i] = item->raw, adjusted[i] = item->adjusted;
    }
}

/* store.without_rare. Returns how many records are left; `dropped` is raised by how many keys are not. */
int64_t store_common(const uint64_t *keys, const int64_t *raw, const int64_t *adjusted, int64_t count, int64_t most,
                     uint64_t rest, uint64_t *kept, int64_t *kept_raw, int64_t *kept_adjusted, int64_t *dropped)
{
    int64_t size = 0;
    for (int64_t i = 0; i < count;) {
        const uint64_t context = keys[i] & ~rest;
        const int64_t before = size;
        int64_t mass = 0;
        for (; i < count && (keys[i] & ~rest) == context; i++) {
            if (raw[i] <= most) {
                mass += adjusted[i] > 0 ? adjusted[i] : raw[i];
                *dropped += raw[i] > 0;
            } else {
                kept[size] = keys[i], kept_raw[size] = raw[i], kept_adjusted[size] = adjusted[i];
                size++;
            }
        }
        if (size > before && mass > 0) {
            kept[size] = context | rest, kept_raw[size] = 0, kept_adjusted[size] = mass;
            size++;
        }
    }
    return size;
}

void store_place(place_t *places, uint64_t capacity, const place_t *items, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (i + AHEAD < count)
            __builtin_prefetch(places + first(items[i + AHEAD].key, capacity), 1);
        *SEEK(places, capacity, items[i].key) = items[i];
    }
}

typedef struct {
    uint64_t key;
    double share;
} entry_t;

typedef struct {
    uint64_t key;
    double left;
    int64_t total;
} context_t;

/* An index of a frozen table, into empty places: of each key its share, of each context what it leaves and its total. */
void store_index(entry_t *entries, uint64_t entry_room, const uint64_t *keys, const double *shares, int64_t count,
                 context_t *contexts, uint64_t context_room, const uint64_t *owners, const double *left,
                 const int64_t *totals, int64_t owner_count)
{
    for (int64_t i = 0; i < count; i++) {
        if (i + AHEAD < count)
            __builtin_prefetch(entries + first(keys[i + AHEAD], entry_room), 1);
        entry_t *place = SEEK(entries, entry_room, keys[i]);
        *place = (entry_t){keys[i], shares[i]};
    }
    for (int64_t i = 0; i < owner_count; i++) {
        if (i + AHEAD < owner_count)
            __builtin_prefetch(contexts + first(owners[i + AHEAD], context_room), 1);
        context_t *place = SEEK(contexts, context_room, owners[i]);
        *place = (context_t){owners[i], left[i], totals[i]};
    }
}

/* Of each (context, target) whose history is long enough: the share of its entry or 0; what its context leaves and its
   total, or 1 and 0. */
void store_step(const entry_t *entries, uint64_t entry_room, const context_t *contexts, uint64_t context_room,
                const uint64_t *wanted, const int64_t *targets, const int64_t *reach, int64_t needed, int64_t count,
                double *share, double *left, int64_t *total)
{
    for (int64_t i = 0; i < count; i++) {
        if (i + AHEAD < count) {
            const uint64_t ahead = wanted[i + AHEAD];
            __builtin_prefetch(contexts + first(ahead, context_room));
            __builtin_prefetch(entries + first(ahead | (uint64_t)targets[i + AHEAD], entry_room));
        }
        share[i] = 0.0, left[i] = 1.0, total[i] = 0;
        if (reach[i] < needed)
            continue;
        const context_t *known = SEEK(contexts, context_room, wanted[i]);
        if (!known->key)
            continue;
        left[i] = known->left, total[i] = known->total;
        const uint64_t key = wanted[i] | (uint64_t)targets[i];
        const entry_t *entry = SEEK(entries, entry_room, key);
        if (entry->key)
            share[i] = entry->share;
    }
}
