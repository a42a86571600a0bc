// The whole operator, or its attention path alone, in bands of rows: project, convolve, attend.
//
// A task is an image, or a band of its output rows. It goes down in blocks of ROWS query rows: the new rows of q, k and v
// come into a ring of rows (projection.h), keys are transposed and values padded into rings of their own, then the block's
// outputs are convolved (convolution.h) and attended to (attention.h). All of it stays in a core's own cache.

#pragma once

#include <numeric>

#include "attention.h"
#include "convolution.h"
#include "projection.h"

// Time what follows as a part of the whole: tests/benchmarks/parts.cpp defines it.
#ifndef TIMED
#define TIMED(PART)
#endif

constexpr long WHOLE_IMAGE = 640 << 10;  // bytes of q, k and v: below this, an image is projected at once

struct Operator {
    long batch, height, width, inputs, heads, depth, window, kernel, stride, threads;
    const T* input;       // (B, H, W, inputs), or q, k and v (B, H, W, 3C) where there is no projection
    const T* projection;  // [block of channels][input][channel], or null
    const T* bias;        // (3C,)
    const T* position;    // (D, 2), what x and y are projected by; where there is no projection (H, W, D), what comes of it
    const T* factor;      // (C,): what attention is multiplied by, or null
    const T* path;        // the convolution path's weights [D / V][ky][j][kx][N][V], or null: no such path
    const T* shift;       // [D / V][N][V], or null
    T* out;               // (B, h, w, C)
    T* statistics;        // (2, B, N, h, w): each query's largest score in units of log 2, and one over its sum of
                          // exponentials; or null
};

template <int A, int S>
struct Band {
    using W = Window<A, S>;
    const Operator& o;
    const W window;
    const long N, D, C, K, query_row;
    const MapRows& maps;
    Scratch keys, values, queries, scores, mosts, position;
    ConvolutionSizes path;

    Band(const Operator& o, const MapRows& maps)
        : o(o), window(o.height, o.width, o.depth), N(o.heads), D(o.depth), C(N * D), K(of_kernel(o)),
          query_row(D * window.lanes), maps(maps),
          keys(W::SPAN * N * window.row_size()), values(W::SPAN * N * window.row_size()), queries(ROWS * query_row),
          scores(ROWS * W::TAPS * V), mosts(ROWS * V), position((o.width + 2) * D), path() {
        path.inputs = 3 * N, path.outputs = N, path.kernel = K;
        T* by = position.data + o.width * D;  // what x is multiplied by, then y
        for (long e = 0; e < D && o.projection; ++e) by[e] = o.position[2 * e], by[D + e] = o.position[2 * e + 1];
    }

    static long of_kernel(const Operator& o) { return o.path ? o.kernel : 1; }

    // Room for some rows of q, k and v, or by default for as many as a block needs, or a small image has.
    static MapRows rows_for(const Operator& o, long count = 0) {
        const long K = of_kernel(o), channels = 3 * o.heads * o.depth;
        const long seen = S * (ROWS - 1) + K / 2 + std::max(long(A), K) / 2 + 1;
        if (!count) count = o.height * o.width * channels * long(sizeof(T)) <= WHOLE_IMAGE ? std::max(seen, o.height) : seen;
        return MapRows(o.width, channels, K, S, count);
    }

    T* key(long n, long padded_row) const { return keys.data + (padded_row % W::SPAN * N + n) * window.row_size(); }
    T* value(long n, long padded_row) const { return values.data + (padded_row % W::SPAN * N + n) * window.row_size(); }

    // Output rows `begin` to `end` of image b, of which rows up to `projected` are at hand.
    void run(long b, long begin, long end, long projected = 0) const {
        const long reach = std::max(long(A), K) / 2;
        const bool at_once = maps.count >= o.height;
        projected = std::max(projected, begin * S - reach);
        long padded = begin * S;
        for (long y = begin; y < end; y += ROWS) {
            const long rows = std::min(long(ROWS), end - y);
            const long seen = ((at_once ? end : y + rows) - 1) * S + reach + 1, wanted = std::min(o.height, seen);
            const long last = (y + rows - 1) * S + A;
            // Some rows at a time, each arranged while it is in the ring.
            while (projected < wanted || padded < last) {
                const long next = at_once ? wanted : std::min(wanted, projected + S * ROWS);
                fill(b, projected, next);
                projected = std::max(projected, next);
                for (; padded < last && window.row(padded) < projected; ++padded) arrange(padded);
            }
            if (o.path) convolve(b, y, rows);
            for (long n = 0; n < N; ++n) attend(b, n, y, rows);
        }
    }

    // Bring keys and values of one padded row into the order in which attention reads them.
    void arrange(long padded) const {
        TIMED(ORDER)
        const T* at = positions(window.row(padded));
        for (long n = 0; n < N; ++n) {
            const T* k = maps.at(window.row(padded)) + (C + n * D) / V * maps.next;
            window.transpose_row(k, maps.place.data(), maps.next, at, key(n, padded));
            window.copy_row(k + C / V * maps.next, maps.place.data(), maps.next, nullptr, value(n, padded));
        }
    }

    // The positions of a row, (W, D). Their bias and the query's own are left out: both are the same for a window's keys.
    const T* positions(long row) const {
        if (!o.projection) return o.position + row * o.width * D;
        const auto coordinate = [](long at, long size) { return size > 1 ? T(2.0 * at / (size - 1) - 1) : T(-1); };
        const T y = coordinate(row, o.height), *by = position.data + o.width * D;
        for (long column = 0; column < o.width; ++column) {
            const T x = coordinate(column, o.width);
            for (long e = 0; e < D; e += V)
                store(position.data + column * D + e, x * load(by + e) + y * load(by + D + e));
        }
        return position.data;
    }

    void fill(long b, long begin, long end) const {
        TIMED(PROJECTION)
        if (begin < end) fill(o, maps, b, begin, end, 0, 3 * C);
    }

    // Bring in rows `begin` to `end` of q, k and v of image b: their channels from `first` to `last`, where projected.
    static void fill(const Operator& o, const MapRows& maps, long b, long begin, long end, long first, long last) {
        const T* image = o.input + b * o.height * o.width * o.inputs;
        if (o.projection) maps.project(image, o.inputs, o.projection, o.bias, begin, end, first, last);
        else maps.copy(image, begin, end);
    }

    void convolve(long b, long y, long rows) const {
        TIMED(PATH)
        std::vector<const T*> at(K);
        for (long e = 0; e < D; e += V)
            for (long r = y; r < y + rows; ++r) {
                for (long ky = 0; ky < K; ++ky) {
                    const long row = r * S - K / 2 + ky;
                    at[ky] = row < 0 || row >= o.height ? nullptr : maps.at(row) + e / V * maps.next;
                }
                convolve_row(path, at.data(), maps.taps.data(), D / V * maps.next, o.path + e * K * K * 3 * N * N,
                             o.shift ? o.shift + e * N : nullptr, window.w, C, o.out + (b * window.h + r) * window.w * C, e,
                             D, true);
            }
    }

    void attend(long b, long n, long y, long rows) const {
        const bool is_first = window.halves() && n % 2 == 0 && n + 1 < N, is_second = window.halves() && n % 2;
        const long end = is_second ? window.w / V * V : window.w;  // the first does what they share
        arrange_queries(n, y, rows, end, is_first);
        for (long x = 0; x < end; x += V) {
            const bool is_shared = is_first && window.w - x <= V / 2;
            is_shared ? score<2>(n, y, x, rows) : score<1>(n, y, x, rows);
            for (long r = 0; r < rows; ++r) {
                T inverse[V];
                soften(r, inverse);
                for (long h = 0; h <= is_shared; ++h) {
                    if (o.statistics) keep_statistics(b, n + h, y, x, r, h * V / 2, inverse);
                    aggregate(b, n + h, y, x, r, h * V / 2, inverse);
                }
            }
        }
    }

    void arrange_queries(long n, long y, long rows, long end, bool with_next) const {
        TIMED(ORDER)
        const T scale = T(LOG2_E / std::sqrt(double(D)));
        for (long r = 0; r < rows; ++r) {
            const T* row = maps.at((y + r) * S) + n * D / V * maps.next;
            const T* other = with_next ? row + D / V * maps.next : nullptr;
            window.transpose_queries(row, other, end, maps.place.data(), maps.next, scale, queries.data + r * query_row);
        }
    }

    // The scores of a block.
    template <int HEADS>
    INLINE void score(long n, long y, long x, long rows) const {
        TIMED(SCORES)
        const auto keys = [&](long p, int h) { return key(n + h, y * S + p) + window.key_at(x); };
        block_products<A, S, HEADS>(window, queries.data + x * D, rows, keys, scores.data, mosts.data);
    }

    // Row r's scores to exponentials, and one over the sum of each query's.
    INLINE void soften(long r, T* inverse) const {
        TIMED(SOFTMAX)
        store(inverse, 1 / exponentials<A>(scores.data + r * W::TAPS * V, load(mosts.data + r * V)));
    }

    // Of a head whose queries stand in the block from `lane` on.
    void keep_statistics(long b, long n, long y, long x, long r, long lane, const T* inverse) const {
        const long queries = o.batch * N * window.h * window.w, count = std::min(V - lane, window.w - x);
        T* at = o.statistics + ((b * N + n) * window.h + y + r) * window.w + x;
        for (long i = 0; i < count; ++i) at[i] = mosts.data[r * V + lane + i], at[queries + i] = inverse[lane + i];
    }

    // The weighted sums of row r's values, of a head whose queries stand in the block from `lane` on, to the output.
    INLINE void aggregate(long b, long n, long y, long x, long r, long lane, const T* inverse) const {
        TIMED(VALUES)
        const long count = std::min(V - lane, window.w - x);
        const T* weights = scores.data + r * W::TAPS * V + lane;
        T* results = o.out + ((b * window.h + y + r) * window.w + x) * C + n * D;
        over_tiles(D, count, [&](auto vectors, auto queries, long q, long e) INLINE_LAMBDA {
            constexpr int VECTORS = decltype(vectors)::value, QUERIES = decltype(queries)::value;
            const T* at[A];
            for (int ky = 0; ky < A; ++ky)
                at[ky] = value(n, (y + r) * S + ky) + e * window.padded + S * (x + q) * V;
            vec sums[QUERIES][VECTORS], by[VECTORS];
            weighted_sum<A, S>(weights + q, at, window.padded * V, sums);
            for (int j = 0; j < VECTORS; ++j) by[j] = o.factor ? load(o.factor + n * D + e + j * V) : all(1);
#pragma GCC unroll 16
            for (int p = 0; p < QUERIES; ++p) {
                if (q + p >= count) break;
                for (int j = 0; j < VECTORS; ++j) {
                    T* result = results + (q + p) * C + e + j * V;
                    const vec attended = sums[p][j] * inverse[lane + q + p] * by[j];
                    store(result, o.path ? load(result) + attended : attended);
                }
            }
        });
    }
};

template <int A, int S>
void run_operator(const Operator& o) {
    using B = Band<A, S>;
    const long h = (o.height + S - 1) / S, channels = 3 * o.heads * o.depth;
    // As many images as are a multiple of the threads are a thread's, each. The rest are cut into bands of rows, each of
    // which sees some rows of the next ones. Where those count, all threads first project all of an image, some rows or
    // channels each, whichever there are more of.
    const long rest = o.batch % o.threads, whole = o.batch - rest;
    const long wanted = o.threads / std::gcd(rest, o.threads);
    const long band = rounded_up((h + wanted - 1) / wanted, ROWS), bands = (h + band - 1) / band;
    const bool by_rows = o.height * o.width >= channels;
    const long all = by_rows ? o.height : channels;
    const long part = by_rows ? std::max(long(ROWS), o.height / (2 * o.threads)) : BLOCK;
    const long parts = (all + part - 1) / part;
    std::vector<MapRows> shared;
    if (o.projection && band < 2 * A)
        for (long b = whole; b < o.batch; ++b) shared.push_back(B::rows_for(o, o.height));
#pragma omp parallel num_threads(o.threads)
    {
        const MapRows maps = B::rows_for(o);
        const B work(o, maps);
#pragma omp for schedule(dynamic) nowait
        for (long b = 0; b < whole; ++b) work.run(b, 0, h);
#pragma omp for schedule(dynamic)
        for (long task = 0; task < long(shared.size()) * parts; ++task) {
            const long i = task / parts, begin = task % parts * part, end = std::min(all, begin + part);
            if (by_rows) B::fill(o, shared[i], whole + i, begin, end, 0, channels);
            else B::fill(o, shared[i], whole + i, 0, o.height, begin, end);
        }
#pragma omp for schedule(dynamic)
        for (long task = 0; task < rest * bands; ++task) {
            const long i = task / bands, begin = task % bands * band, end = std::min(h, begin + band);
            if (shared.empty()) work.run(whole + i, begin, end);
            else B(o, shared[i]).run(whole + i, begin, end, o.height);
        }
    }
}
