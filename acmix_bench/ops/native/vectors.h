// Vectors of LANES numbers of type SCALAR, by the extensions that GCC and Clang share: one source for AVX2, AVX-512
// and NEON. The compiler is told both by -DSCALAR=float -DLANES=16.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))

using T = SCALAR;
constexpr int V = LANES;
using Bits = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
typedef T vec __attribute__((vector_size(V * sizeof(T))));
typedef Bits bits __attribute__((vector_size(V * sizeof(T))));

// Vector registers: what is held in them at once is sized by this.
#if defined(__AVX512VL__) || defined(__aarch64__)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif

INLINE long rounded_up(long x, long to) { return (x + to - 1) / to * to; }

INLINE vec load(const T* from) {  // no alignment is assumed
    vec x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

INLINE void store(T* to, vec x) { std::memcpy(to, &x, sizeof x); }

// Keep a vector in a register: the compiler would rather load it again from memory for each use. Of an array's element it
// may store a copy too: keep a variable, then assign.
#if defined(__x86_64__)
#define KEEP(x) __asm__("" : "+v"(x))
#elif defined(__aarch64__)
#define KEEP(x) __asm__("" : "+w"(x))
#else
#define KEEP(x)
#endif

#define KEEP_ADDRESS(x) __asm__("" : "+r"(x))

// Have what is loaded before and after this loaded twice.
#define LOAD_AGAIN __asm__ volatile("" ::: "memory")

INLINE vec all(T value) { return value - vec{}; }  // x - 0 is x: a broadcast and nothing else

INLINE vec larger(vec a, vec b) { return a > b ? a : b; }

INLINE T sum(vec x) {
    T total = 0;
    for (int i = 0; i < V; ++i) total += x[i];
    return total;
}

// The elements of a and then b that stand at these places.
template <int... PLACE>
INLINE vec shuffle(vec a, vec b) {
#ifdef __clang__
    return __builtin_shufflevector(a, b, PLACE...);
#else
    return __builtin_shuffle(a, b, bits{PLACE...});
#endif
}

constexpr auto EACH = std::make_integer_sequence<int, V>();

// Call run(0), run(1), ... run(N - 1), each with its number as a type.
template <class Run, int... I>
INLINE void each(std::integer_sequence<int, I...>, const Run& run) {
    (run(std::integral_constant<int, I>()), ...);
}

template <int N, class Run>
INLINE void each(const Run& run) {
    each(std::make_integer_sequence<int, N>(), run);
}

// Add the product of every one of HELD vectors with every one of OTHERS to its sum. Those HELD stay in registers.
template <int HELD, int OTHERS, class Sum>
INLINE void add_products(const T* held, const T* others, const Sum& sum) {
    vec a[HELD];
    each<HELD>([&](auto i) INLINE_LAMBDA {
        vec x = load(held + i * V);
        KEEP(x);
        a[i] = x;
    });
    each<OTHERS>([&](auto j) INLINE_LAMBDA {
        vec b = load(others + j * V);
        KEEP(b);
        each<HELD>([&](auto i) INLINE_LAMBDA { sum(i, j) += a[i] * b; });
    });
}

template <int BY, int... I>
INLINE vec joined(vec low, vec high, std::integer_sequence<int, I...>) {
    return shuffle<(I + BY)...>(low, high);
}

// V of the 2 V elements of low and then high, from element BY on. GCC 12 does not find the instruction by itself.
template <int BY>
INLINE vec joined(vec low, vec high) {
    if constexpr (BY == 0) return low;
    if constexpr (BY == V) return high;
#if LANES == 16 && defined(__AVX512DQ__)
    return reinterpret_cast<vec>(
        _mm512_maskz_alignr_epi32(0xffff, reinterpret_cast<__m512i>(high), reinterpret_cast<__m512i>(low), BY % V));
#elif LANES == 8 && defined(__AVX2__)
    if constexpr (sizeof(T) == 4) {
        const __m256i a = reinterpret_cast<__m256i>(low), b = reinterpret_cast<__m256i>(high);
        const __m256i middle = _mm256_permute2x128_si256(a, b, 0x21);
        if constexpr (BY == 4) return reinterpret_cast<vec>(middle);
        else if constexpr (BY < 4) return reinterpret_cast<vec>(_mm256_alignr_epi8(middle, a, BY % 4 * 4));
        else return reinterpret_cast<vec>(_mm256_alignr_epi8(b, middle, BY % 4 * 4));
    }
#endif
    return joined<BY>(low, high, std::make_integer_sequence<int, V>());
}

template <int BY, int... I>
INLINE vec halves(vec a, vec b, std::integer_sequence<int, I...>) {
    return shuffle<(I + BY + (I < V / 2 ? 0 : V / 2))...>(a, b);
}

// V / 2 elements of a and then V / 2 of b, each from element BY on, which is V / 2 at most.
template <int BY>
INLINE vec halves(vec a, vec b) {
#if LANES == 16 && defined(__AVX512DQ__)
    const __m512i first = reinterpret_cast<__m512i>(a), second = reinterpret_cast<__m512i>(b);
    const __m512i turned = _mm512_maskz_alignr_epi32(0xffff, second, second, (BY + V / 2) % V);
    return reinterpret_cast<vec>(_mm512_mask_alignr_epi32(turned, 0x00ff, first, first, BY % V));
#else
    return halves<BY>(a, b, std::make_integer_sequence<int, V>());
#endif
}

// V / 2 numbers from each of two places. Some before the second are read too.
template <int... I>
INLINE vec both(const T* first, const T* second, std::integer_sequence<int, I...>) {
    return shuffle<(I < V / 2 ? I : I + V)...>(load(first), load(second - V / 2));
}

// One half of (a0, b0, a1, b1, ...): the first half, or the second one.
template <int HALF, int... I>
INLINE vec zip(vec a, vec b, std::integer_sequence<int, I...>) {
    return shuffle<((I + HALF * V) / 2 + I % 2 * V)...>(a, b);
}

// One third of (a0, b0, c0, a1, ...).
template <int THIRD, int... I>
INLINE vec zip(vec a, vec b, vec c, std::integer_sequence<int, I...>) {
    constexpr auto place = [](int i) { return (i + THIRD * V) / 3; };
    constexpr auto of = [](int i) { return (i + THIRD * V) % 3; };
    return shuffle<(of(I) == 2 ? V + place(I) : I)...>(shuffle<(of(I) == 1 ? V + place(I) : place(I))...>(a, b), c);
}

// The even elements (0) or the odd ones (1) of a and then b: the reverse of zip.
template <int ODD, int... I>
INLINE vec unzip(vec a, vec b, std::integer_sequence<int, I...>) {
    return shuffle<(2 * I + ODD)...>(a, b);
}

// Transpose V vectors of V: log2(V) perfect shuffles.
INLINE void transpose(vec (&x)[V]) {
#pragma GCC unroll 4
    for (int step = 1; step < V; step *= 2) {
        vec y[V];
#pragma GCC unroll 16
        for (int i = 0; i < V / 2; ++i) {
            y[2 * i] = zip<0>(x[i], x[i + V / 2], EACH);
            y[2 * i + 1] = zip<1>(x[i], x[i + V / 2], EACH);
        }
#pragma GCC unroll 16
        for (int i = 0; i < V; ++i) x[i] = y[i];
    }
}

// 2^f for f from -1/2 to 1/2: the minimax polynomial, to 1e-7.
INLINE vec exp2_of_fraction(vec f) {
    vec p = all(T(0.0013276471979223163));
    p = p * f + T(0.00967554133420919);
    p = p * f + T(0.05550713273543265);
    p = p * f + T(0.24022119723848662);
    p = p * f + T(0.6931469670647329);
    return p * f + T(1.000000071654682);
}

// 2^x for x <= 0; 0 below the smallest normal number, and NaN of NaN.
INLINE vec exp2_of(vec x) {
    if constexpr (sizeof(T) == 8) {
        for (int i = 0; i < V; ++i) x[i] = std::exp2(x[i]);
        return x;
    }
    const vec lowest = all(-126);
    x = larger(lowest, x);  // which stays where it is NaN
#if LANES == 16 && defined(__AVX512DQ__)
    const vec whole = reinterpret_cast<vec>(_mm512_maskz_roundscale_ps(0xffff, reinterpret_cast<__m512>(x), 0));
    const __m512 power = reinterpret_cast<__m512>(exp2_of_fraction(x - whole));
    return reinterpret_cast<vec>(_mm512_maskz_scalef_ps(0xffff, power, reinterpret_cast<__m512>(whole)));
#else
    const vec magic = all(12582912 + 127);  // 1.5 * 2^23: adding it rounds to a whole number, in the lowest bits
    const vec shifted = x + magic;
    const bits power = reinterpret_cast<bits>(shifted) << 23;  // two to that number
    return exp2_of_fraction(x - (shifted - magic)) * reinterpret_cast<vec>(power);
#endif
}

// Memory of one thread, on cache lines, with whatever is in it. Where it is small it goes back to the thread, and not to the
// system, which would have to give new pages, and clear them, at every call.
class Scratch {
    struct Block {
        std::unique_ptr<T[]> memory;
        size_t size;
    };
    static constexpr size_t SMALL = (8 << 20) / sizeof(T), MOST_KEPT = 16;

    static std::vector<Block>& kept() {
        static thread_local std::vector<Block> blocks;
        return blocks;
    }

    Block block = {nullptr, 0};

public:
    T* data;

    explicit Scratch(size_t size) {
        auto& blocks = kept();
        // The smallest that is large enough, or else the largest.
        auto best = blocks.end();
        const size_t wanted = size + 64 / sizeof(T);
        for (auto other = blocks.begin(); other != blocks.end(); ++other) {
            const bool fits = other->size >= wanted;
            if (best == blocks.end() || (fits ? best->size < wanted || other->size < best->size : other->size > best->size))
                best = other;
        }
        if (best != blocks.end()) {
            block = std::move(*best);
            blocks.erase(best);
        }
        if (block.size < wanted) block = {std::unique_ptr<T[]>(new T[wanted]), wanted};
        void* start = block.memory.get();
        size_t room = block.size * sizeof(T);
        data = static_cast<T*>(std::align(64, size * sizeof(T), start, room));
    }

    ~Scratch() {
        if (block.memory && block.size <= SMALL && kept().size() < MOST_KEPT) kept().push_back(std::move(block));
    }
    Scratch(Scratch&&) = default;
};
