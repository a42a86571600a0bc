// How fast each part of the operator runs in its place, on one thread: shares.py builds and runs this.
//
//     parts CHANNELS SIZE SECONDS: a line "name G" for each, in 10^9 multiply-adds a second; the rest as milliseconds.

#include <chrono>
#include <cstdio>
#include <cstdlib>

enum Part { PROJECTION, PATH, SCORES, VALUES, SOFTMAX, ORDER, PARTS };
static unsigned long long spent[PARTS], ticks[PARTS];

struct Tick {
    Part part;
    unsigned long long start;
    explicit Tick(Part part) : part(part), start(__builtin_ia32_rdtsc()) {}
    ~Tick() { spent[part] += __builtin_ia32_rdtsc() - start, ++ticks[part]; }
};

#define TIMED(PART) const Tick tick(PART);
#include "kernels.cpp"

static std::vector<T> numbers(long size) {
    std::vector<T> x(size);
    for (long i = 0; i < size; ++i) x[i] = T(i * 7919 % 1009) / 5045 - T(0.1);
    return x;
}

static double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Nothing but multiply-adds, in as many registers as the kernels' sums take.
static double peak() {
    constexpr int SUMS = REGISTERS == 32 ? 24 : 12;
    constexpr long TIMES = 1 << 20;
    double best = 0;
    for (int i = 0; i < 20; ++i) {
        vec sums[SUMS], x = all(T(0.5));
#pragma GCC unroll 24
        for (int s = 0; s < SUMS; ++s) sums[s] = all(T(s));  // all different, or they would be one
        const double start = now();
        for (long t = 0; t < TIMES; ++t) {
            KEEP(x);
#pragma GCC unroll 24
            for (int s = 0; s < SUMS; ++s) sums[s] += sums[s] * x;
        }
        best = std::max(best, TIMES * SUMS * V / (now() - start) / 1e9);
        vec total = {};
#pragma GCC unroll 24
        for (int s = 0; s < SUMS; ++s) total += sums[s];
        volatile T used = sum(total);
        (void)used;
    }
    return best;
}

// What a tick itself takes, with nothing in it.
static double of_a_tick() {
    constexpr int TIMES = 100000;
    const unsigned long long before = spent[ORDER];
    for (int i = 0; i < TIMES; ++i) const Tick tick(ORDER);
    const double each = double(spent[ORDER] - before) / TIMES;
    spent[ORDER] = before, ticks[ORDER] -= TIMES;
    return each;
}

int main(int, char** arguments) {
    const long C = std::atol(arguments[1]), size = std::atol(arguments[2]), B = 4, N = 4, pixels = B * size * size;
    const auto x = numbers(pixels * C), weights = numbers(3 * C * C), bias = numbers(3 * C), factor = numbers(C);
    const auto position = numbers(2 * C / N), path = numbers(C * 3 * N * 9);
    std::vector<T> packed(3 * C * C), out(pixels * C);
    pack_projection(weights.data(), 3 * C, C, packed.data(), 1);
    const Operator o = {B,           size, size, C, N, C / N, 7, 3, 1, 1, x.data(), packed.data(), bias.data(), position.data(),
                        factor.data(), path.data(), nullptr, out.data(), nullptr};
    const MapRows maps = Band<7, 1>::rows_for(o);
    const Band<7, 1> band(o, maps);
    std::printf("peak %.1f\n", peak());
    const double own = of_a_tick();
    const double start = now(), until = start + std::atof(arguments[3]);
    const unsigned long long first = __builtin_ia32_rdtsc();
    long times = 0;
    for (; now() < until; ++times)
        for (long b = 0; b < B; ++b) band.run(b, 0, size);
    const double tick = (now() - start) / double(__builtin_ia32_rdtsc() - first);
    const auto took = [&](Part part) { return (spent[part] - own * ticks[part]) * tick / times; };
    const auto rate = [&](const char* name, Part part, double macs) {
        std::printf("%s %.1f\n", name, macs * C * pixels / took(part) / 1e9);
    };
    rate("projection", PROJECTION, 3 * C), rate("path", PATH, 3 * N * 9);
    rate("scores", SCORES, 49), rate("values", VALUES, 49);
    std::printf("softmax_ms %.3f\norder_ms %.3f\n", took(SOFTMAX) * 1e3, took(ORDER) * 1e3);
}
