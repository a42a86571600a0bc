// A 1x1 projection of the input into rows that a thread has at hand: q, k and v never leave the cache.

#pragma once

#include "rows.h"

constexpr int PROJECTED = REGISTERS == 32 ? 4 : 3;  // vectors of channels that are projected together
constexpr long BLOCK = PROJECTED * V;

// Bring a 1x1 convolution's weights (channels, inputs) into the order that project() reads.
void pack_weights(const T* weights, long channels, long inputs, T* to, long threads) {
    const long whole = channels / BLOCK * BLOCK;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long c = 0; c < channels; c += V) {
        const long block = c < whole ? BLOCK : V;  // channels that lie together
        T* start = c < whole ? to + c / block * block * inputs + c % block : to + c * inputs;
        for (long j = 0; j + V <= inputs; j += V) {
            vec x[V];
#pragma GCC unroll 16
            for (int lane = 0; lane < V; ++lane) x[lane] = load(weights + (c + lane) * inputs + j);
            transpose(x);
#pragma GCC unroll 16
            for (int lane = 0; lane < V; ++lane) store(start + (j + lane) * block, x[lane]);
        }
        for (long j = inputs / V * V; j < inputs; ++j)
            for (long lane = 0; lane < V; ++lane) start[j * block + lane] = weights[(c + lane) * inputs + j];
    }
}

struct MapRows : Rows {
    long channels;  // of a pixel

    MapRows(long width, long channels, long kernel, long stride, long count)
        : Rows(width, channels / V, kernel, stride, count), channels(channels) {}

    // Bring in rows `begin` to `end` of a map (H, W, channels) that is there already.
    void copy(const T* map, long begin, long end) const {
        for (long y = begin; y < end; ++y)
            for (long x = 0; x < width; ++x) {
                const T* pixel = map + (y * width + x) * channels;
                T* to = at(y) + place[x];
                for (long c = 0; c < channels; c += V) store(to + c / V * next, load(pixel + c));
            }
    }

    // Project rows `begin` to `end` of an input (H, W, inputs) to the channels from `first` to `last`, which are multiples
    // of BLOCK or the end. `weights` are [block of channels][input][channel], the last blocks of one vector; `bias` is
    // (channels,).
    void project(const T* input, long inputs, const T* weights, const T* bias, long begin, long end, long first,
                 long last) const {
        std::vector<T*> places;
        for (long y = begin; y < end; ++y)
            for (long x = 0; x < width; ++x) places.push_back(at(y) + place[x]);
        const long count = places.size();
        input += begin * width * inputs;
        // Some inputs at a time, for all pixels: their weights stay in the first cache.
        const long parts = (inputs + INPUTS - 1) / INPUTS, part = (inputs + parts - 1) / parts;
        for (long c = first; c < last;) {
            const auto run = [&](auto vectors) INLINE_LAMBDA {
                constexpr int VECTORS = decltype(vectors)::value;
                for (long j = 0; j < inputs; j += part) {
                    const T* w = weights + c * inputs + j * VECTORS * V;
                    const long some = std::min(part, inputs - j);
                    long p = 0;
                    const auto tiles = [&](auto pixels) INLINE_LAMBDA {
                        constexpr int PIXELS = decltype(pixels)::value;
                        tile<PIXELS, VECTORS>(input + p * inputs + j, inputs, some, w, j ? nullptr : bias + c,
                                              places.data() + p, c / V * next);
                        p += PIXELS;
                    };
                    if constexpr (REGISTERS == 32)
                        while (count - p >= 6) tiles(std::integral_constant<int, 6>());
                    while (count - p >= 4) tiles(std::integral_constant<int, 4>());
                    if (count - p >= 2) tiles(std::integral_constant<int, 2>());
                    if (count - p >= 1) tiles(std::integral_constant<int, 1>());
                }
                c += VECTORS * V;
            };
            if (last - c >= BLOCK) run(std::integral_constant<int, BLOCK / V>());
            else run(std::integral_constant<int, 1>());
        }
    }

private:
    static constexpr long INPUTS = (24 << 10) / (BLOCK * sizeof(T));  // 24 KiB of weights
    static constexpr long LINE = 64 / sizeof(T);  // numbers of a cache line

    // PIXELS by VECTORS vectors of channels, to `offset` numbers behind their places: `some` inputs on top of the bias, or
    // where there is none, of what stands there.
    template <int PIXELS, int VECTORS>
    void tile(const T* input, long inputs, long some, const T* weights, const T* bias, T* const* places, long offset) const {
        const T* pixel[PIXELS];
#pragma GCC unroll 6
        for (int p = 0; p < PIXELS; ++p) pixel[p] = input + p * inputs;
        vec total[PIXELS][VECTORS];
#pragma GCC unroll 6
        for (int p = 0; p < PIXELS; ++p)
#pragma GCC unroll 4
            for (int i = 0; i < VECTORS; ++i)
                total[p][i] = bias ? load(bias + i * V) : load(places[p] + offset + i * next);
        for (long line = 0; line < some; line += LINE) {
#pragma GCC unroll 6
            for (int p = 0; p < PIXELS; ++p) __builtin_prefetch(pixel[p] + PIXELS * inputs + line);  // the next tile's
            for (long j = line; j < std::min(line + LINE, some); ++j, weights += VECTORS * V) {
                vec w[VECTORS];
#pragma GCC unroll 4
                for (int i = 0; i < VECTORS; ++i) {
                    w[i] = load(weights + i * V);
                    KEEP(w[i]);
                }
#pragma GCC unroll 6
                for (int p = 0; p < PIXELS; ++p) {
                    vec x = all(pixel[p][j]);
                    KEEP(x);
#pragma GCC unroll 4
                    for (int i = 0; i < VECTORS; ++i) total[p][i] += x * w[i];
                }
            }
        }
#pragma GCC unroll 6
        for (int p = 0; p < PIXELS; ++p)
#pragma GCC unroll 4
            for (int i = 0; i < VECTORS; ++i) store(places[p] + offset + i * next, total[p][i]);
    }
};
