// A grouped convolution whose lanes are groups: out[e][n] = sum over j, ky, kx of in[j][e] * weight[n][j][ky][kx][e].
//
// One vector of groups of one image at a time. The input rows at hand (rows.h) are copied, or where a fully connected layer
// comes before the convolution, made by it. A tile of up to 6 outputs of a row by up to 4 maps n is summed in registers; the
// weights are streamed in the order of use.
//
// Letters: B batch, H W map, h w output grid, D groups, I maps in, N maps out, K kernel.

#pragma once

#include "rows.h"

struct ConvolutionSizes {
    long batch, height, width, groups, inputs, outputs, kernel, stride, threads;
    long in_channels, in_first;     // channels of a pixel of `maps`, and the first one that is read
    long in_by_group, out_by_group; // order of the channels: e * N + n (by group), or n * D + e
};

// The layer before the convolution, the same for every group and pixel: I maps from some values j, at j * D + e of `maps`.
struct Connection {
    long values;
    const T* weights;  // [value][map], or null: no such layer
    const T* bias;     // [map]
};

constexpr int COLUMNS_OF_LINE = std::max<int>(1, 64 / sizeof(vec));  // of a row, in a line of the cache
constexpr int LARGEST_KERNEL = 15;

// Read V groups of `count` maps of one pixel: to[j * step].
INLINE void read_groups(const T* pixel, long e, long groups, long count, bool by_group, T* to, long step) {
    if (!by_group)
        for (long j = 0; j < count; ++j) store(to + j * step, load(pixel + j * groups + e));
    else if (count == 4) {
        const T* from = pixel + e * 4;
        const vec a = load(from), b = load(from + V), c = load(from + 2 * V), d = load(from + 3 * V);
        const vec even = unzip<0>(a, b, EACH), odd = unzip<1>(a, b, EACH);
        const vec even_2 = unzip<0>(c, d, EACH), odd_2 = unzip<1>(c, d, EACH);
        store(to, unzip<0>(even, even_2, EACH)), store(to + step, unzip<0>(odd, odd_2, EACH));
        store(to + 2 * step, unzip<1>(even, even_2, EACH)), store(to + 3 * step, unzip<1>(odd, odd_2, EACH));
    } else
        for (long j = 0; j < count; ++j)
            for (long lane = 0; lane < V; ++lane) to[j * step + lane] = pixel[(e + lane) * count + j];
}

// COUNT vectors to [lane][COUNT].
template <int COUNT>
INLINE void interleave(const vec (&x)[COUNT], T* to) {
    if constexpr (COUNT == 1) store(to, x[0]);
    else if constexpr (COUNT == 2) store(to, zip<0>(x[0], x[1], EACH)), store(to + V, zip<1>(x[0], x[1], EACH));
    else if constexpr (COUNT == 3) {
        store(to, zip<0>(x[0], x[1], x[2], EACH)), store(to + V, zip<1>(x[0], x[1], x[2], EACH));
        store(to + 2 * V, zip<2>(x[0], x[1], x[2], EACH));
    } else {
        const vec a = zip<0>(x[0], x[2], EACH), b = zip<0>(x[1], x[3], EACH);
        const vec c = zip<1>(x[0], x[2], EACH), d = zip<1>(x[1], x[3], EACH);
        store(to, zip<0>(a, b, EACH)), store(to + V, zip<1>(a, b, EACH));
        store(to + 2 * V, zip<0>(c, d, EACH)), store(to + 3 * V, zip<1>(c, d, EACH));
    }
}

// Write COUNT maps, from map n on, of V groups of one pixel.
template <int COUNT>
INLINE void write_groups(T* pixel, long e, long groups, long n, long outputs, bool by_group, const vec (&x)[COUNT]) {
    if (!by_group) {
        for (int i = 0; i < COUNT; ++i) store(pixel + (n + i) * groups + e, x[i]);
    } else if (outputs == COUNT) {
        interleave(x, pixel + e * COUNT);
    } else {
        T each[COUNT * V];
        interleave(x, each);
        for (int lane = 0; lane < V; ++lane) std::memcpy(pixel + (e + lane) * outputs + n, each + lane * COUNT, COUNT * sizeof(T));
    }
}

// COUNT maps of PIXELS outputs: out[pixel][map]. `rows` are the K input rows at the tile's first column, null where
// outside; `taps` are the places of the K columns in a row; `next` numbers lie between two input maps; `weights` is
// [ky][j][kx][N][lane].
template <int PIXELS, int COUNT>
INLINE void convolve_tile(
    const ConvolutionSizes& s, const T* const* rows, const long* taps, long next, const T* weights, vec (&out)[PIXELS][COUNT]) {
    const long step = s.outputs * V, K = s.kernel, inputs = s.inputs;
    vec total[PIXELS][COUNT];
#pragma GCC unroll 8
    for (int p = 0; p < PIXELS; ++p)
#pragma GCC unroll 4
        for (int n = 0; n < COUNT; ++n) total[p][n] = out[p][n];
    for (long ky = 0; ky < K; ++ky) {
        const T* w = weights + ky * inputs * K * step;
        const T* row = rows[ky];
        for (long j = 0; j < inputs && row; ++j, row += next) {
            if constexpr (REGISTERS == 16)  // the next tile's columns, which such a CPU does not foresee
                for (int c = 0; c < PIXELS; c += COLUMNS_OF_LINE) __builtin_prefetch(row + (PIXELS + K - 1 + c) * V);
            for (long kx = 0; kx < K; ++kx, w += step) {
                const T* in = row + taps[kx];
                if constexpr (PIXELS < COUNT)
                    add_products<PIXELS, COUNT>(in, w, [&](auto p, auto n) INLINE_LAMBDA -> vec& { return total[p][n]; });
                else add_products<COUNT, PIXELS>(w, in, [&](auto n, auto p) INLINE_LAMBDA -> vec& { return total[p][n]; });
            }
        }
    }
#pragma GCC unroll 8
    for (int p = 0; p < PIXELS; ++p)
#pragma GCC unroll 4
        for (int n = 0; n < COUNT; ++n) out[p][n] = total[p][n];
}

// The `w` outputs of a row, all N maps of V groups from group e on. `rows` are the K input rows, null where outside;
// `channels` numbers lie from one pixel of the result to the next.
INLINE void convolve_row(
    const ConvolutionSizes& s, const T* const* rows, const long* taps, long next, const T* weights, const T* shift, long w,
    long channels, T* pixel, long e, long groups, bool by_group) {
    constexpr int MOST = 4;
    const T* at[LARGEST_KERNEL];
    long x = 0;
    const auto tile = [&](auto pixels, auto maps, long n) INLINE_LAMBDA {
        constexpr int PIXELS = decltype(pixels)::value, COUNT = decltype(maps)::value;
        vec sums[PIXELS][COUNT];
#pragma GCC unroll 8
        for (int p = 0; p < PIXELS; ++p)
#pragma GCC unroll 4
            for (int i = 0; i < COUNT; ++i) sums[p][i] = shift ? load(shift + (n + i) * V) : vec{};
        convolve_tile<PIXELS, COUNT>(s, at, taps, next, weights + n * V, sums);
#pragma GCC unroll 8
        for (int p = 0; p < PIXELS; ++p)
            if (x + p < w) write_groups<COUNT>(pixel + (x + p) * channels, e, groups, n, s.outputs, by_group, sums[p]);
    };
    const auto all_maps = [&](auto pixels) INLINE_LAMBDA {
        for (long ky = 0; ky < s.kernel; ++ky) at[ky] = rows[ky] ? rows[ky] + x * V : nullptr;
        long n = 0;
        for (; n + MOST <= s.outputs; n += MOST) tile(pixels, std::integral_constant<int, MOST>(), n);
        const long left = s.outputs - n;
        if (left == 3) tile(pixels, std::integral_constant<int, 3>(), n);
        if (left == 2) tile(pixels, std::integral_constant<int, 2>(), n);
        if (left == 1) tile(pixels, std::integral_constant<int, 1>(), n);
        x += decltype(pixels)::value;
    };
    if constexpr (REGISTERS == 32) {
        while (w - x > 4) all_maps(std::integral_constant<int, 6>());
        if (w - x > 2) all_maps(std::integral_constant<int, 4>());
    } else
        while (w - x > 2) all_maps(std::integral_constant<int, 3>());
    if (w - x > 0) all_maps(std::integral_constant<int, 2>());
}

// Bring a kernel (N * D, I, K, K), channels e * N + n, into the order that convolve_row() reads, [D / V][ky][j][kx][N][V].
// Where there is a layer before it, (I, maps), that goes into it, times *factor if there is one: it then has `maps` maps in.
void pack_kernel(
    const T* kernel, const T* layer, const T* factor, long groups, long outputs, long inputs, long maps, long K, T* to) {
    const long taps = K * K, block = taps * maps * outputs * V;
    const T by = factor ? *factor : 1;
    const Scratch gathered(inputs * taps * V);  // [map][tap][lane]
    for (long e = 0; e < groups; e += V)
        for (long n = 0; n < outputs; ++n) {
            for (long lane = 0; lane < V; ++lane) {
                const T* from = kernel + ((e + lane) * outputs + n) * inputs * taps;
                for (long i = 0; i < inputs * taps; ++i) gathered.data[i * V + lane] = from[i];
            }
            for (long j = 0; j < maps; ++j)
                for (long tap = 0; tap < taps; ++tap) {
                    vec total = layer ? vec{} : load(gathered.data + (j * taps + tap) * V);
                    for (long m = 0; m < inputs && layer; ++m)
                        total += by * layer[m * maps + j] * load(gathered.data + (m * taps + tap) * V);
                    store(to + e / V * block + (((tap / K * maps + j) * K + tap % K) * outputs + n) * V, total);
                }
        }
}

// The input rows that are at hand, for one vector of groups.
struct GroupRows : Rows {
    const ConvolutionSizes& s;
    const Connection& layer;

    GroupRows(const ConvolutionSizes& s, const Connection& layer)
        : Rows(s.width, s.inputs, s.kernel, s.stride, s.kernel), s(s), layer(layer) {}

    // Bring in row y of an image. Columns outside stay zero, as they are from the start.
    void read(const T* image, long e, long y) const {
        const T* row = image + y * s.width * s.in_channels + s.in_first;
        if (layer.weights) return connect(row + e, at(y));
        for (long x = 0; x < s.width; ++x)
            read_groups(row + x * s.in_channels, e, s.groups, s.inputs, s.in_by_group, at(y) + place[x], next);
    }

private:
    void connect(const T* row, T* to) const {
        for (long m = 0; m < s.inputs;) {
            const auto run = [&](auto maps) INLINE_LAMBDA {
                constexpr int MAPS = decltype(maps)::value, PIXELS = REGISTERS == 32 ? 3 : 1;
                for (long x = 0; x < s.width; x += PIXELS) {
                    vec total[PIXELS][MAPS];
#pragma GCC unroll 3
                    for (int p = 0; p < PIXELS; ++p)
#pragma GCC unroll 9
                        for (int i = 0; i < MAPS; ++i) total[p][i] = all(layer.bias[m + i]);
                    const T* w = layer.weights + m;
                    for (long j = 0; j < layer.values; ++j, w += s.inputs) {
                        vec value[PIXELS];
#pragma GCC unroll 3
                        for (int p = 0; p < PIXELS; ++p) {
                            value[p] = load(row + std::min(x + p, s.width - 1) * s.in_channels + j * s.groups);
                            KEEP(value[p]);
                        }
#pragma GCC unroll 9
                        for (int i = 0; i < MAPS; ++i) {
                            vec by = all(w[i]);
                            KEEP(by);
#pragma GCC unroll 3
                            for (int p = 0; p < PIXELS; ++p) total[p][i] += value[p] * by;
                        }
                    }
#pragma GCC unroll 3
                    for (int p = 0; p < PIXELS; ++p) {
                        if (x + p >= s.width) break;
#pragma GCC unroll 9
                        for (int i = 0; i < MAPS; ++i) store(to + (m + i) * next + place[x + p], total[p][i]);
                    }
                }
                m += MAPS;
            };
            if (s.inputs - m >= 9) run(std::integral_constant<int, 9>());
            else run(std::integral_constant<int, 1>());
        }
    }
};

// maps (B, H, W, in_channels); weights [D / V][ky][j][kx][N][V]; out (B, h, w, N * D).
void convolve(const ConvolutionSizes& s, const Connection& layer, const T* maps, const T* weights, T* out) {
    const long S = s.stride, K = s.kernel, N = s.outputs, C = N * s.groups;
    const long h = (s.height + S - 1) / S, w = (s.width + S - 1) / S, blocks = s.groups / V;
    const long images = s.batch * blocks;
    const long wanted = images >= 4 * s.threads ? 1 : (4 * s.threads + images - 1) / images;
    const long band = (h + wanted - 1) / wanted, bands = (h + band - 1) / band;
#pragma omp parallel num_threads(s.threads)
    {
        const GroupRows rows(s, layer);
        std::vector<const T*> at(K);
#pragma omp for schedule(dynamic)
        for (long task = 0; task < images * bands; ++task) {
            const long b = task / bands / blocks, block = task / bands % blocks, e = block * V;
            const long begin = task % bands * band, end = std::min(h, begin + band);
            const T* image = maps + b * s.height * s.width * s.in_channels;
            const T* weight = weights + block * K * K * s.inputs * N * V;
            long ready = std::max(0L, begin * S - K / 2);
            for (long y = begin; y < end; ++y) {
                const long first = y * S - K / 2;
                for (ready = std::max(ready, first); ready < std::min(first + K, s.height); ++ready) rows.read(image, e, ready);
                for (long ky = 0; ky < K; ++ky)
                    at[ky] = first + ky >= 0 && first + ky < s.height ? rows.at(first + ky) : nullptr;
                convolve_row(s, at.data(), rows.taps.data(), rows.next, weight, nullptr, w, C,
                             out + (b * h + y) * w * C, e, s.groups, s.out_by_group);
            }
        }
    }
}

// Add one row's products to the gradient of COUNT maps out of INPUTS maps in, at one tap: gradient[j * apart] is
// [n][lane]. `in` are the inputs at the tap, `next` numbers from one map to the next; `out` is [column][N][lane].
template <int INPUTS, int COUNT>
INLINE void multiply_rows(const T* in, long next, const T* out, long outputs, long w, T* gradient, long apart) {
    vec total[INPUTS][COUNT];
#pragma GCC unroll 6
    for (int j = 0; j < INPUTS; ++j)
#pragma GCC unroll 4
        for (int n = 0; n < COUNT; ++n) total[j][n] = load(gradient + j * apart + n * V);
    for (long x = 0; x < w; ++x, in += V, out += outputs * V) {
        vec by[COUNT];
#pragma GCC unroll 4
        for (int n = 0; n < COUNT; ++n) {
            by[n] = load(out + n * V);
            KEEP(by[n]);
        }
#pragma GCC unroll 6
        for (int j = 0; j < INPUTS; ++j) {
            vec a = load(in + j * next);
            KEEP(a);
#pragma GCC unroll 4
            for (int n = 0; n < COUNT; ++n) total[j][n] += a * by[n];
        }
    }
#pragma GCC unroll 6
    for (int j = 0; j < INPUTS; ++j)
#pragma GCC unroll 4
        for (int n = 0; n < COUNT; ++n) store(gradient + j * apart + n * V, total[j][n]);
}

// The gradient of convolve()'s weights, in their layout: gradient (B, h, w, N * D) of its result. A task is a vector of
// groups and some input maps, over all images in order: the result does not depend on the threads.
void convolve_backward(const ConvolutionSizes& whole, const T* maps, const T* gradient, T* weights) {
    constexpr int INPUTS = 6, MOST = REGISTERS == 32 ? 4 : 2;
    const long S = whole.stride, K = whole.kernel, N = whole.outputs, C = N * whole.groups;
    const long h = (whole.height + S - 1) / S, w = (whole.width + S - 1) / S;
    const long parts = (whole.inputs + INPUTS - 1) / INPUTS, tap = N * V;
    const Connection none = {};
    std::fill_n(weights, whole.groups * K * K * whole.inputs * N, T(0));
#pragma omp parallel for schedule(dynamic) num_threads(whole.threads)
    for (long task = 0; task < whole.groups / V * parts; ++task) {
        const long e = task / parts * V, first = task % parts * INPUTS;
        ConvolutionSizes s = whole;
        s.inputs = std::min(long(INPUTS), whole.inputs - first);
        s.in_first += first * s.groups;
        const GroupRows rows(s, none);
        const Scratch row(w * N * V);
        T* result = weights + e * K * K * whole.inputs * N;
        for (long b = 0; b < s.batch; ++b)
            for (long y = 0, ready = 0; y < h; ++y) {
                const long top = y * S - K / 2;
                for (ready = std::max(ready, top); ready < std::min(top + K, s.height); ++ready)
                    rows.read(maps + b * s.height * s.width * s.in_channels, e, ready);
                for (long x = 0; x < w; ++x)
                    read_groups(gradient + ((b * h + y) * w + x) * C, e, s.groups, N, s.out_by_group, row.data + x * N * V, V);
                for (long ky = std::max(0L, -top); ky < std::min(K, s.height - top); ++ky)
                    for (long kx = 0; kx < K; ++kx) {
                        const T* in = rows.at(top + ky) + rows.taps[kx];
                        T* to = result + ((ky * whole.inputs + first) * K + kx) * tap;
                        const auto run = [&](auto inputs, auto count, long j, long n) INLINE_LAMBDA {
                            multiply_rows<decltype(inputs)::value, decltype(count)::value>(
                                in + j * rows.next, rows.next, row.data + n * V, N, w, to + j * K * tap + n * V, K * tap);
                        };
                        using Most = std::integral_constant<int, MOST>;
                        using One = std::integral_constant<int, 1>;
                        long n = 0;
                        for (; n + MOST <= N; n += MOST)
                            if (s.inputs == INPUTS) run(std::integral_constant<int, INPUTS>(), Most(), 0, n);
                            else
                                for (long j = 0; j < s.inputs; ++j) run(One(), Most(), j, n);
                        for (; n < N; ++n)
                            for (long j = 0; j < s.inputs; ++j) run(One(), One(), j, n);
                    }
            }
    }
}
