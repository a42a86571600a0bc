// Local attention: each query attends to the window round it, keys and values being reflection padded.
//
// A block is ROWS query rows by V queries of a row, of one head:
//   scores   lanes are queries; ROWS rows x A offsets of one key row are summed in registers
//   softmax  lanes are queries, so nothing is added across lanes
//   values   lanes are channels; some queries x some vectors of channels are summed in registers
// Where the last queries of a row fill no more than half of a block, two heads share it.
// The keys of the rows at hand are kept transposed, padded, with their position taken off:
// [columns][channel][plane][column], of V columns or of all.
// Column c of the padded map stands in plane c % S at c / S: so neighbouring queries read neighbouring keys at any stride.
// Where there are 32 registers, a block's keys at each offset are made in them from whole vectors, since most loads between
// those would touch two cache lines. With 16 there is no room: keys are loaded, and some offsets summed at a time.
//
// Letters: B batch, C channels, N heads, D channels a head, H W map, h w query grid, A window, S stride.

#pragma once

#include "vectors.h"

constexpr int ROWS = 3;
constexpr bool SHIFTS = REGISTERS == 32;  // whether keys are made from whole vectors
constexpr double LOG2_E = 1.4426950408889634;

INLINE long reflected(long at, long size) {
    at = at < 0 ? -at : at;
    return at >= size ? 2 * (size - 1) - at : at;
}

// What follows from the sizes of a map.
template <int A, int S>
struct Window {
    static constexpr int TAPS = A * A;
    static constexpr int SPAN = S * (ROWS - 1) + A;                             // key rows that a block sees
    static constexpr int SEEN = 1 + ((A - 1) / S + V - 1) / V;                  // vectors of key columns of one plane

    long height, width, depth, h, w;
    long lanes;   // queries of a row, rounded up to whole vectors
    long padded;  // columns of the padded map, with those that only surplus lanes read
    long together;  // columns of a plane that lie together in keys
    long filled;  // those of them that are written; surplus lanes may read anything, and nothing is stored of them
    std::vector<long> column;  // of the padded map: the column of the map that stands there

    Window(long height, long width, long depth) : height(height), width(width), depth(depth) {
        h = (height + S - 1) / S, w = (width + S - 1) / S;
        lanes = rounded_up(w, V);
        padded = S * (lanes + V * (SEEN - 1));
        together = SHIFTS ? V : padded / S;
        filled = rounded_up(width + A - 1, S * V);
        for (long c = 0; c < filled; ++c) column.push_back(reflected(std::min(c, width - 1 + A - 1) - A / 2, width));
    }

    long row(long padded_row) const { return reflected(padded_row - A / 2, height); }
    long row_size() const { return depth * padded; }      // of one head's row of keys or values
    // Where a transposed row has the keys of the queries from column x on.
    long key_at(long x) const { return SHIFTS ? x * depth * S : x; }

    // Transpose a padded row of one head to [columns][channel][plane][column], less `position` (W, D) if there is one. Column
    // x of the row is at place[x], and its next vector of channels `next` numbers on.
    void transpose_row(const T* row, const long* place, long next, const T* position, T* to) const {
        const long vectors = filled / S / V;
        for (int p = 0; p < S; ++p)
            for (long i = 0; i < vectors; ++i)
                for (long e = 0; e < depth; e += V) {
                    vec x[V];
#pragma GCC unroll 16
                    for (int lane = 0; lane < V; ++lane) {
                        const long at = column[S * (i * V + lane) + p];
                        x[lane] = load(row + place[at] + e / V * next);
                        if (position) x[lane] -= load(position + at * depth + e);
                    }
                    transpose(x);
                    T* start = to + key_at(i * V) + (e * S + p) * together;
#pragma GCC unroll 16
                    for (int lane = 0; lane < V; ++lane) store(start + lane * S * together, x[lane]);
                }
    }

    // Whether the last block of a row has room for two heads, of which then every second one brings no queries there.
    bool halves() const { return V / 2 >= (A - 1) / S && w % V && w % V <= V / 2; }

    // Transpose the queries of a row before `end`, times `scale`: [block of V queries][channel][query]. `other`, where it is
    // not null, is the same row of the head that shares the last block.
    void transpose_queries(const T* row, const T* other, long end, const long* place, long next, T scale, T* to) const {
        for (long i = 0; i < end; i += V)
            for (long e = 0; e < depth; e += V, to += V * V) {
                const bool is_shared = other && w - i <= V / 2;
                vec x[V];
#pragma GCC unroll 16
                for (int lane = 0; lane < V; ++lane) {
                    const bool is_other = is_shared && lane >= V / 2;
                    const long at = std::min(i + lane - (is_other ? V / 2 : 0), w - 1);
                    x[lane] = load((is_other ? other : row) + place[S * at] + e / V * next) * scale;
                }
                transpose(x);
#pragma GCC unroll 16
                for (int lane = 0; lane < V; ++lane) store(to + lane * V, x[lane]);
            }
    }

    // Copy a padded row of one head, less `position` (W, D) if there is one: [vector of channels][column][channel].
    void copy_row(const T* row, const long* place, long next, const T* position, T* to) const {
        for (long e = 0; e < depth; e += V, to += padded * V)
            for (long c = 0; c < width + A - 1; ++c) {
                vec x = load(row + place[column[c]] + e / V * next);
                if (position) x -= load(position + column[c] * depth + e);
                store(to + c * V, x);
            }
    }
};

// The keys of one channel at each offset, of one head, or half and half of two: made by shifts of whole vectors.
template <int A, int S, int HEADS>
struct ShiftedKeys {
    static constexpr int SEEN = HEADS == 1 ? Window<A, S>::SEEN : 1;
    vec whole[HEADS][S][SEEN];

    INLINE ShiftedKeys(const Window<A, S>& window, const T* const (&key)[HEADS]) {
        each<HEADS * S * SEEN>([&](auto at) INLINE_LAMBDA {
            constexpr int h = at / SEEN / S, p = at / SEEN % S, i = at % SEEN;
            vec x = load(key[h] + window.key_at(i * V) + p * V);
            KEEP(x);
            whole[h][p][i] = x;
        });
    }

    template <int OFFSET>
    INLINE vec at() const {
        constexpr int PLANE = OFFSET % S, BY = OFFSET / S;
        if constexpr (HEADS == 2) return halves<BY>(whole[0][PLANE][0], whole[1][PLANE][0]);
        else return joined<BY % V>(whole[0][PLANE][BY / V], whole[0][PLANE][std::min(BY / V + 1, SEEN - 1)]);
    }
};

// The same, each loaded from where it stands.
template <int A, int S, int HEADS>
struct LoadedKeys {
    const Window<A, S>& window;
    const T* const (&key)[HEADS];

    INLINE LoadedKeys(const Window<A, S>& window, const T* const (&key)[HEADS]) : window(window), key(key) {}

    template <int OFFSET>
    INLINE vec at() const {
        const long place = OFFSET % S * window.together + OFFSET / S;
        vec x = HEADS == 1 ? load(key[0] + place) : both(key[0] + place, key[HEADS - 1] + place, EACH);
        KEEP(x);
        return x;
    }
};

// Dot products over channels of COUNT query rows at one key row, of one head or half and half of two: out[row][offset], for
// OFFSETS offsets from FIRST on.
template <int A, int S, int COUNT, int HEADS, int FIRST, int OFFSETS>
INLINE void dot_products(
    const Window<A, S>& window, const T* query, const T* const (&heads)[HEADS], vec (&out)[COUNT][OFFSETS]) {
    using Keys = std::conditional_t<SHIFTS, ShiftedKeys<A, S, HEADS>, LoadedKeys<A, S, HEADS>>;
    vec total[COUNT][OFFSETS] = {};
    const long query_row = window.depth * window.lanes;
    const T* key[HEADS];
    std::copy_n(heads, HEADS, key);
#pragma GCC unroll 4
    for (long e = 0; e < window.depth; ++e, query += V) {
        vec q[COUNT];
        each<COUNT>([&](auto r) INLINE_LAMBDA {
            vec x = load(query + r * query_row);
            KEEP(x);
            q[r] = x;
        });
        const Keys keys(window, key);
        each<OFFSETS>([&](auto offset) INLINE_LAMBDA {
            const vec by = keys.template at<FIRST + offset>();
            each<COUNT>([&](auto r) INLINE_LAMBDA { total[r][offset] += q[r] * by; });
        });
#pragma GCC unroll 2
        for (int h = 0; h < HEADS; ++h) key[h] += S * window.together;
    }
#pragma GCC unroll 3
    for (int r = 0; r < COUNT; ++r)
#pragma GCC unroll 16
        for (int a = 0; a < OFFSETS; ++a) out[r][a] = total[r][a];
}

// Dot products of a block: `to` is [row][tap][lane], and `most`, where it is not null, the largest of each query,
// [row][lane]. key(p, h) is the transposed key row of head h that stands at padded row p of the block, at its first column.
template <int A, int S, int HEADS = 1, class Key>
inline void block_products(const Window<A, S>& window, const T* query, long rows, const Key& key, T* to, T* most) {
    for (long p = 0; p < S * (rows - 1) + A; ++p) {
        const long low = std::max(0L, (p - A + S) / S), high = std::min(rows - 1, p / S);
        const T* keys[HEADS];
        for (int h = 0; h < HEADS; ++h) keys[h] = key(p, h);
        const auto run = [&](auto count) INLINE_LAMBDA {
            constexpr int COUNT = decltype(count)::value, MOST = REGISTERS * 3 / 4 / COUNT;  // as many sums as fit
            constexpr int PARTS = (A + MOST - 1) / MOST, PART = (A + PARTS - 1) / PARTS;
            each<PARTS>([&](auto part) INLINE_LAMBDA {
                constexpr int FIRST = part * PART, OFFSETS = std::min(PART, A - FIRST);
                vec out[COUNT][OFFSETS];
                dot_products<A, S, COUNT, HEADS, FIRST>(window, query + low * window.depth * window.lanes, keys, out);
#pragma GCC unroll 3
                for (int r = 0; r < COUNT; ++r) {
                    const long row = low + r, ky = p - S * row;
#pragma GCC unroll 16
                    for (int a = 0; a < OFFSETS; ++a) store(to + ((row * A + ky) * A + FIRST + a) * V, out[r][a]);
                    if (!most) continue;
                    vec largest = ky || FIRST ? load(most + row * V) : out[r][0];
#pragma GCC unroll 16
                    for (int a = 0; a < OFFSETS; ++a) largest = larger(out[r][a], largest);
                    store(most + row * V, largest);
                }
            });
        };
        if (high == low) run(std::integral_constant<int, 1>());
        if (high == low + 1) run(std::integral_constant<int, 2>());
        if (high == low + 2) run(std::integral_constant<int, 3>());
    }
}

// Turn the scores of V queries, [tap][lane], into exponentials in place. Returns their sums.
template <int A>
inline vec exponentials(T* scores, vec most) {
    vec totals[A] = {};  // beside each other: one alone would wait for itself
    for (int ky = 0; ky < A; ++ky)
#pragma GCC unroll 16
        for (int a = 0; a < A; ++a) {
            const vec weight = exp2_of(load(scores + (ky * A + a) * V) - most);
            totals[a] += weight;
            store(scores + (ky * A + a) * V, weight);
        }
#pragma GCC unroll 16
    for (int a = 1; a < A; ++a) totals[0] += totals[a];
    return totals[0];
}

// out[query][vector] = sum over the window of weights[tap][query] * map at the tap. `rows` are the A rows of the map, each
// [vector of channels][column][channel], `next` numbers from one vector of channels to the next.
template <int A, int S, int QUERIES, int VECTORS>
INLINE void weighted_sum(const T* weights, const T* const* rows, long next, vec (&out)[QUERIES][VECTORS]) {
    vec total[QUERIES][VECTORS] = {};
    for (int ky = 0; ky < A; ++ky, weights += A * V) {
        const T* row = rows[ky];
#pragma GCC unroll 64
        for (int c = 0; c < S * (QUERIES - 1) + A; ++c) {
            vec x[VECTORS];
#pragma GCC unroll 2
            for (int i = 0; i < VECTORS; ++i) {
                x[i] = load(row + i * next + c * V);
                KEEP(x[i]);
            }
#pragma GCC unroll 16
            for (int q = 0; q < QUERIES; ++q) {
                const int kx = c - S * q;
                if (kx < 0 || kx >= A) continue;
#pragma GCC unroll 2
                for (int i = 0; i < VECTORS; ++i) total[q][i] += weights[kx * V + q] * x[i];
            }
        }
    }
#pragma GCC unroll 16
    for (int q = 0; q < QUERIES; ++q)
#pragma GCC unroll 2
        for (int i = 0; i < VECTORS; ++i) out[q][i] = total[q][i];
}

// Queries of one tile of weighted_sum: their sums fill half of the registers.
template <int VECTORS>
constexpr int TILE = std::min(V, REGISTERS / 2 / VECTORS);

// Call run(vectors, queries, first query, first channel) for all tiles of some queries and all channels of a head. The last
// tile is half as large where that is enough.
template <class Run>
INLINE void over_tiles(long depth, long queries, const Run& run) {
    long e = 0;
    const auto over = [&](auto vectors) INLINE_LAMBDA {
        constexpr int VECTORS = decltype(vectors)::value, MOST = TILE<VECTORS>, HALF = (MOST + 1) / 2;
        for (long q = 0; q < queries; q += MOST)
            if (queries - q > HALF) run(vectors, std::integral_constant<int, MOST>(), q, e);
            else run(vectors, std::integral_constant<int, HALF>(), q, e);
        e += VECTORS * V;
    };
    while (e + 2 * V <= depth) over(std::integral_constant<int, 2>());
    if (e < depth) over(std::integral_constant<int, 1>());
}
