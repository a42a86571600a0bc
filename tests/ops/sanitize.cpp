// Every kernel over odd shapes, on buffers of exactly their size: `nox -s sanitize` runs this under the sanitizers.

#include <cstdio>
#include <vector>

#include "kernels.cpp"

static std::vector<T> numbers(long size) {
    std::vector<T> x(size);
    for (long i = 0; i < size; ++i) x[i] = T(i * 7919 % 1000) / 500 - 1;
    return x;
}

static void attend(long batch, long height, long width, long heads, long depth, long window, long stride, long inputs) {
    const long C = heads * depth, h = (height + stride - 1) / stride, w = (width + stride - 1) / stride, kernel = 3;
    const auto x = numbers(batch * height * width * inputs), weights = numbers(3 * C * inputs), bias = numbers(3 * C);
    const auto coordinates = numbers(depth * 2), position = numbers(height * width * depth), factor = numbers(C), shift = numbers(C);
    const auto path = numbers(C * 3 * heads * kernel * kernel), qkv = numbers(batch * height * width * 3 * C);
    std::vector<T> packed(3 * C * inputs), out(batch * h * w * C), statistics(2 * batch * heads * h * w);
    std::vector<T> result(batch * height * width * 3 * C);
    pack_projection(weights.data(), 3 * C, inputs, packed.data(), 2);
    const Operator whole = {batch,         height,      width,           inputs,        heads,       depth,
                            window,        kernel,      stride,          2,             x.data(),    packed.data(),
                            bias.data(),   coordinates.data(), factor.data(), path.data(), shift.data(), out.data(),
                            nullptr};
    const Operator parts = {batch,   height, width, 3 * C,      heads,           depth,   window,  1,       stride,    2,
                            qkv.data(), nullptr, nullptr, position.data(), nullptr, nullptr, nullptr, out.data(),
                            statistics.data()};
    const AttentionGradient gradient = {batch,      height,          width,      heads,             depth,     window,
                                        stride,     2,               qkv.data(), position.data(),   out.data(), statistics.data(),
                                        out.data(), result.data()};
    if (operator_forward(&whole) || operator_forward(&parts) || attention_backward(&gradient)) std::abort();
}

static void convolve(long height, long width, long groups, long inputs, long outputs, long kernel, long stride) {
    const long h = (height + stride - 1) / stride, w = (width + stride - 1) / stride, batch = 2;
    const auto maps = numbers(batch * height * width * inputs * groups), out = numbers(batch * h * w * outputs * groups);
    const auto weights = numbers(groups * outputs * inputs * kernel * kernel);
    std::vector<T> result(out.size()), gradient(weights.size());
    const long values = 1 + width % 4;
    const auto unconnected = numbers(batch * height * width * values * groups), connection = numbers(values * inputs);
    ConvolutionSizes s = {batch, height, width,           groups, inputs, outputs, kernel, stride,
                                2,     inputs * groups, 0,      0,      1};
    const Connection none = {}, layer = {values, connection.data(), connection.data()};
    convolution_forward(&s, &none, maps.data(), weights.data(), result.data());
    convolution_backward(&s, maps.data(), out.data(), gradient.data());
    s.in_channels = values * groups;
    convolution_forward(&s, &layer, unconnected.data(), weights.data(), result.data());
    std::vector<T> packed(weights.size()), folded(groups * outputs * values * kernel * kernel);
    const auto before = numbers(inputs * values), factor = numbers(1);
    pack_path(weights.data(), nullptr, nullptr, groups, outputs, inputs, inputs, kernel, packed.data());
    pack_path(weights.data(), before.data(), factor.data(), groups, outputs, inputs, values, kernel, folded.data());
}

int main() {
    for (long window : {3, 5, 7})
        for (long stride : {1, 2})
            for (long width : {4, 7, 16, 19, 33}) attend(2, 4 + width % 5, width, 1 + width % 3, V * (1 + width % 2), window, stride, 3 + width);
    for (long stride : {1, 2}) attend(1, 43, 34, 4, 16, 7, stride, 5);  // a few rows at a time
    for (long kernel : {1, 3, 5})
        for (long stride : {1, 2, 3})
            for (long width : {1, 6, 7, 13}) convolve(1 + width % 4, width, V * (1 + width % 2), 1 + width, 1 + width % 5, kernel, stride);
    std::puts("no complaint");
}
