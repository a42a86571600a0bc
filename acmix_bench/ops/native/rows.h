// The rows of a map that a thread has at hand, in a ring: row y stands where row y - count stood.
//
// A row is [vector of channels][plane][column][lane], zero padded by half of the convolution's kernel: column c of the
// padded map stands in plane c % stride at c / stride, so that neighbouring outputs read neighbouring inputs at any stride.

#pragma once

#include "vectors.h"

constexpr int TILE_WIDTH = 6;  // outputs of a row that are summed together

struct Rows {
    long width, count;       // columns of the map, rows that are kept
    long plane, next, size;  // columns of a plane, numbers to the next vector of channels, numbers of a row
    std::vector<long> place; // of each column of the map, in numbers
    std::vector<long> taps;  // of each column of the kernel, from where an output's first one stands
    Scratch memory;

    Rows(long width, long vectors, long kernel, long stride, long count)
        : width(width), count(count),
          plane(rounded_up((width + stride - 1) / stride, TILE_WIDTH) + (kernel + stride - 2) / stride), next(stride * plane * V),
          size(vectors * next), memory(count * size) {
        const auto placed = [&](long c) { return (c % stride * plane + c / stride) * V; };
        for (long c = 0; c < width + kernel - 1; ++c)
            for (long vector = 0; vector < count * vectors; ++vector)
                if (c < kernel / 2 || c >= kernel / 2 + width) store(memory.data + vector * next + placed(c), vec{});
        for (long x = 0; x < width; ++x) place.push_back(placed(x + kernel / 2));
        for (long kx = 0; kx < kernel; ++kx) taps.push_back(placed(kx));
    }

    T* at(long y) const { return memory.data + y % count * size; }
};
