#include "attention_backward.h"
#include "convolution.h"
#include "operator.h"

#ifndef WINDOWS
#define WINDOWS(CASE) CASE(3) CASE(5) CASE(7)
#endif

// Nothing else is seen: libraries of other number types have functions of the same names.
#define EXPORTED extern "C" __attribute__((visibility("default")))

static_assert(sizeof(long) == 8 && sizeof(T*) == 8, "kernels.py packs structures of eight bytes a field");

EXPORTED int operator_forward(const Operator* o) {
#define CASE(A)                                                                    \
    if (o->window == A && o->stride == 1) return run_operator<A, 1>(*o), 0;         \
    if (o->window == A && o->stride == 2) return run_operator<A, 2>(*o), 0;
    WINDOWS(CASE)
#undef CASE
    return 1;
}

EXPORTED void pack_projection(const T* weights, long channels, long inputs, T* to, long threads) {
    pack_weights(weights, channels, inputs, to, threads);
}

EXPORTED void pack_path(
    const T* kernel, const T* layer, const T* factor, long groups, long outputs, long inputs, long maps, long size, T* to) {
    pack_kernel(kernel, layer, factor, groups, outputs, inputs, maps, size, to);
}

EXPORTED void convolution_forward(
    const ConvolutionSizes* s, const Connection* layer, const T* maps, const T* weights, T* out) {
    convolve(*s, *layer, maps, weights, out);
}

EXPORTED int attention_backward(const AttentionGradient* o) {
#define CASE(A)                                                                    \
    if (o->window == A && o->stride == 1) return run_attention_backward<A, 1>(*o), 0; \
    if (o->window == A && o->stride == 2) return run_attention_backward<A, 2>(*o), 0;
    WINDOWS(CASE)
#undef CASE
    return 1;
}

EXPORTED void convolution_backward(const ConvolutionSizes* s, const T* maps, const T* gradient, T* weights) {
    convolve_backward(*s, maps, gradient, weights);
}
