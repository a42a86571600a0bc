// The gradient of local attention. Scores are made again from the stored maxima and sums; nothing of the window's size is
// kept. A task is one head of one image, so that no two threads add to one gradient, and the result does not depend on
// their number. With P the attention weights, and g the gradient of the output:
//
//     dP = g . v        dS = P (dP - sum of g * out) / sqrt(D)        dq = dS k'        dk = dS q        dv = P g
//
// where k' is k less its position. dk and dv are added up on the padded map, then folded back where the padding came from.

#pragma once

#include "attention.h"

struct AttentionGradient {
    long batch, height, width, heads, depth, window, stride, threads;
    const T* qkv;         // (B, H, W, 3C)
    const T* position;    // (H, W, D)
    const T* out;         // (B, h, w, C), the attention itself
    const T* statistics;  // (2, B, N, h, w), of the forward pass
    const T* gradient;    // (B, h, w, C), of out
    T* result;            // (B, H, W, 3C), zeros: the gradient of qkv
};

// The queries of one tile of spread(): the columns that they reach fill most of the registers.
template <int A, int S>
constexpr int spread_tile(int queries = V) {
    return queries > 1 && S * (queries - 1) + A > REGISTERS - 8 ? spread_tile<A, S>(queries / 2) : queries;
}

// Add weights[tap][query] * query's vector to each key of the window: the reverse of weighted_sum. rows[ky] is the padded
// row [column][channel] at the first query's first column.
template <int A, int S, int QUERIES>
INLINE void spread(const T* weights, const T* const* queries, T* const* rows) {
    for (int ky = 0; ky < A; ++ky, weights += A * V) {
        constexpr int COLUMNS = S * (QUERIES - 1) + A;
        vec total[COLUMNS];
#pragma GCC unroll 64
        for (int c = 0; c < COLUMNS; ++c) total[c] = load(rows[ky] + c * V);
#pragma GCC unroll 16
        for (int q = 0; q < QUERIES; ++q) {
            vec x = load(queries[q]);
            KEEP(x);
#pragma GCC unroll 16
            for (int kx = 0; kx < A; ++kx) total[S * q + kx] += weights[kx * V + q] * x;
        }
#pragma GCC unroll 64
        for (int c = 0; c < COLUMNS; ++c) store(rows[ky] + c * V, total[c]);
    }
}

template <int A, int S>
struct HeadGradient {
    using W = Window<A, S>;
    const AttentionGradient& o;
    const W window;
    const long D, C, pixel, query_row, padded_rows;
    std::vector<long> place, query_place;  // of each column in a row of q, k and v, and in one of the output
    Scratch keys, values, keys_by_channel, queries, gradients, weights, changes, key_gradient, value_gradient, zeros;

    HeadGradient(const AttentionGradient& o)
        : o(o), window(o.height, o.width, o.depth), D(o.depth), C(o.heads * D), pixel(3 * C), query_row(D * window.lanes),
          padded_rows(o.height + A - 1), keys(W::SPAN * window.row_size()), values(W::SPAN * window.row_size()),
          keys_by_channel(W::SPAN * window.row_size()), queries(ROWS * query_row), gradients(ROWS * query_row),
          weights(ROWS * W::TAPS * V), changes(ROWS * W::TAPS * V), key_gradient(padded_rows * window.row_size()),
          value_gradient(padded_rows * window.row_size()), zeros(D) {
        std::fill_n(zeros.data, D, T(0));
        for (long x = 0; x < o.width; ++x) place.push_back(x * pixel);
        for (long x = 0; x < o.width; ++x) query_place.push_back(x / S * C);
    }

    T* key(long p) const { return keys.data + p % W::SPAN * window.row_size(); }
    T* value(long p) const { return values.data + p % W::SPAN * window.row_size(); }
    T* key_by_channel(long p) const { return keys_by_channel.data + p % W::SPAN * window.row_size(); }

    void run(long b, long n) const {
        const T* q = o.qkv + b * o.height * o.width * pixel + n * D;
        const T *k = q + C, *v = k + C;
        const T* g = o.gradient + b * window.h * window.w * C + n * D;
        T* result = o.result + (q - o.qkv);
        std::fill_n(key_gradient.data, padded_rows * window.row_size(), T(0));
        std::fill_n(value_gradient.data, padded_rows * window.row_size(), T(0));
        long padded = 0;
        for (long y = 0; y < window.h; y += ROWS) {
            const long rows = std::min(long(ROWS), window.h - y);
            for (padded = std::max(padded, y * S); padded < (y + rows - 1) * S + A; ++padded) {
                const long row = window.row(padded) * o.width;
                window.transpose_row(k + row * pixel, place.data(), V, o.position + row * D, key(padded));
                window.transpose_row(v + row * pixel, place.data(), V, nullptr, value(padded));
                window.copy_row(k + row * pixel, place.data(), V, o.position + row * D, key_by_channel(padded));
            }
            for (long r = 0; r < rows; ++r) {
                window.transpose_queries(q + (y + r) * S * o.width * pixel, nullptr, window.w, place.data(), V,
                                         T(LOG2_E / std::sqrt(double(D))), queries.data + r * query_row);
                window.transpose_queries(g + (y + r) * window.w * C, nullptr, window.w, query_place.data(), V, 1,
                                         gradients.data + r * query_row);
            }
            for (long x = 0; x < window.w; x += V) {
                const long block = window.key_at(x);
                const auto keys = [&](long p, int) { return key(y * S + p) + block; };
                const auto values = [&](long p, int) { return value(y * S + p) + block; };
                block_products<A, S>(window, queries.data + x * D, rows, keys, weights.data, nullptr);
                block_products<A, S>(window, gradients.data + x * D, rows, values, changes.data, nullptr);
                for (long r = 0; r < rows; ++r) back(b, n, y + r, x, r, q, g, result);
            }
        }
        fold(key_gradient.data, result + C);
        fold(value_gradient.data, result + 2 * C);
    }

    // One row of a block: from scores and dP to the gradients of its queries, and what it adds to those of its keys.
    void back(long b, long n, long y, long x, long r, const T* q, const T* g, T* result) const {
        const long count = std::min(long(V), window.w - x), grid = window.h * window.w;
        T *weight = weights.data + r * W::TAPS * V, *change = changes.data + r * W::TAPS * V;
        const T* statistics = o.statistics + (b * o.heads + n) * grid + y * window.w + x;
        const T *query[V], *gradient[V];
        vec most = {}, inverse = {}, delta = {};  // surplus lanes have weight 0
        for (long i = 0; i < V; ++i) {
            query[i] = i < count ? q + (y * S * o.width + (x + i) * S) * pixel : zeros.data;
            gradient[i] = i < count ? g + (y * window.w + x + i) * C : zeros.data;
            if (i >= count) continue;
            most[i] = statistics[i], inverse[i] = statistics[o.batch * o.heads * grid + i];
            const T* out = o.out + (gradient[i] - o.gradient);
            vec total = {};
            for (long e = 0; e < D; e += V) total += load(gradient[i] + e) * load(out + e);
            delta[i] = sum(total);
        }
        const vec scale = all(T(1 / std::sqrt(double(D))));
        bits real;
        for (int i = 0; i < V; ++i) real[i] = i < count ? -1 : 0;
        for (int t = 0; t < W::TAPS; ++t) {
            const vec p = exp2_of(load(weight + t * V) - most) * inverse;
            const vec d = p * (load(change + t * V) - delta) * scale;
            store(weight + t * V, real ? p : vec{});
            store(change + t * V, real ? d : vec{});
        }
        over_tiles(D, count, [&](auto vectors, auto tile, long i, long e) INLINE_LAMBDA {
            constexpr int VECTORS = decltype(vectors)::value, QUERIES = decltype(tile)::value;
            const T* at[A];
            for (int ky = 0; ky < A; ++ky) at[ky] = key_by_channel(y * S + ky) + e * window.padded + S * (x + i) * V;
            vec sums[QUERIES][VECTORS];
            weighted_sum<A, S>(change + i, at, window.padded * V, sums);
#pragma GCC unroll 16
            for (int p = 0; p < QUERIES; ++p) {
                if (i + p >= count) break;
                for (int j = 0; j < VECTORS; ++j)
                    store(result + (y * S * o.width + (x + i + p) * S) * pixel + e + j * V, sums[p][j]);
            }
        });
        constexpr int QUERIES = spread_tile<A, S>();
        for (long e = 0; e < D; e += V)
            for (long i = 0; i < count; i += QUERIES) {
                const long offset = e * window.padded + S * (x + i) * V;
                T *to_keys[A], *to_values[A];
                for (int ky = 0; ky < A; ++ky) {
                    to_keys[ky] = key_gradient.data + (y * S + ky) * window.row_size() + offset;
                    to_values[ky] = value_gradient.data + (y * S + ky) * window.row_size() + offset;
                }
                const T *from_query[QUERIES], *from_gradient[QUERIES];
                for (int p = 0; p < QUERIES; ++p) from_query[p] = query[i + p] + (i + p < count ? e : 0);
                for (int p = 0; p < QUERIES; ++p) from_gradient[p] = gradient[i + p] + (i + p < count ? e : 0);
                spread<A, S, QUERIES>(change + i, from_query, to_keys);
                spread<A, S, QUERIES>(weight + i, from_gradient, to_values);
            }
    }

    // Add a padded map's gradient to the pixels that its padding came from.
    void fold(const T* padded, T* result) const {
        for (long p = 0; p < padded_rows; ++p)
            for (long e = 0; e < D; e += V)
                for (long c = 0; c < o.width + A - 1; ++c) {
                    T* to = result + (window.row(p) * o.width + window.column[c]) * pixel + e;
                    store(to, load(to) + load(padded + p * window.row_size() + (e / V * window.padded + c) * V));
                }
    }
};

template <int A, int S>
void run_attention_backward(const AttentionGradient& o) {
#pragma omp parallel num_threads(o.threads)
    {
        const HeadGradient<A, S> work(o);
#pragma omp for schedule(dynamic)
        for (long task = 0; task < o.batch * o.heads; ++task) work.run(task / o.heads, task % o.heads);
    }
}
