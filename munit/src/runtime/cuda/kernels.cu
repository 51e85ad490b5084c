// What happens on a CUDA device between one convolution and the next, and between pixels and values.
// Maps are channels-last. Compiled at run time by NVRTC, without any header, once for each number
// format: ELEMENT_FP16, ELEMENT_BF16 or ELEMENT_FP32 is defined. The tests compile the same text for
// the CPU.
//
// Every kernel has two forms: `…_wide` moves 16 bytes at a time and needs numbers of channels that
// are multiples of WIDE; `…_single` moves one element.

#define THREADS 256

#ifndef KERNEL
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS)
#endif

#define EPSILON 1e-5

#if defined(ELEMENT_FP32)

typedef float element;
#define WIDE 4

__device__ __forceinline__ float to_float(element value) { return value; }
__device__ __forceinline__ element from_float(float value) { return value; }

#else

typedef unsigned short element;
#define WIDE 8

#if defined(ELEMENT_BF16)

__device__ __forceinline__ float to_float(element value) {
    return __uint_as_float(static_cast<unsigned>(value) << 16);
}

// To nearest, ties to even.
__device__ __forceinline__ element from_float(float value) {
    const unsigned bits = __float_as_uint(value);
    return static_cast<element>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#elif defined(__CUDACC_RTC__)

__device__ __forceinline__ float to_float(element value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value));
    return result;
}

__device__ __forceinline__ element from_float(float value) {
    element result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result) : "f"(value));
    return result;
}

#endif
#endif

// N neighbouring elements as they lie in memory.
template <int N>
struct Packed;

template <>
struct Packed<1> {
    element value;

    __device__ __forceinline__ void load(const element* from) { value = *from; }
    __device__ __forceinline__ void unpack(float (&values)[1]) const { values[0] = to_float(value); }
    __device__ __forceinline__ void pack(const float (&values)[1]) { value = from_float(values[0]); }
    __device__ __forceinline__ void store(element* to) const { *to = value; }
};

template <>
struct Packed<WIDE> {
    uint4 bits;

    __device__ __forceinline__ void load(const element* from) {
        bits = *reinterpret_cast<const uint4*>(from);
    }

    __device__ __forceinline__ void store(element* to) const {
        *reinterpret_cast<uint4*>(to) = bits;
    }

    __device__ __forceinline__ void unpack(float (&values)[WIDE]) const {
        const unsigned words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
        for (int word = 0; word < 4; ++word) {
#if defined(ELEMENT_FP32)
            values[word] = __uint_as_float(words[word]);
#else
            values[2 * word] = to_float(static_cast<element>(words[word] & 0xffffu));
            values[2 * word + 1] = to_float(static_cast<element>(words[word] >> 16));
#endif
        }
    }

    __device__ __forceinline__ void pack(const float (&values)[WIDE]) {
        unsigned words[4];
#pragma unroll
        for (int word = 0; word < 4; ++word) {
#if defined(ELEMENT_FP32)
            words[word] = __float_as_uint(values[word]);
#else
            const unsigned low = from_float(values[2 * word]);
            const unsigned high = from_float(values[2 * word + 1]);
            words[word] = low | (high << 16);
#endif
        }
        bits = make_uint4(words[0], words[1], words[2], words[3]);
    }
};

enum Padding { REFLECT, REPLICATE, ZERO };

// Which of `length` pixels the one at `index`, possibly beyond either end, shows; -1 is zero.
__device__ __forceinline__ int continued(int index, int length, int padding) {
    const int last = length - 1;
    if (index >= 0 && index <= last) {
        return index;
    }
    if (padding == ZERO) {
        return -1;
    }
    if (padding == REFLECT) {
        index = index < 0 ? -index : 2 * last - index;
    }
    return index < 0 ? 0 : index > last ? last : index;
}

enum Activation { NONE, RELU, LEAKY, SELU, TANH };

__device__ __forceinline__ float activate(float value, int activation, float slope) {
    switch (activation) {
    case RELU:
        return value < 0.0f ? 0.0f : value;
    case LEAKY:
        return value < 0.0f ? value * slope : value;
    case SELU:
        return 1.0507009873554805f * (value > 0.0f ? value : 1.6732632423543772f * expm1f(value));
    case TANH:
        return tanhf(value);
    default:
        return value;
    }
}

// Norms; what is not listed is none.
enum Norm { INSTANCE, ADAPTIVE, LAYER };

// Scale and shift of each channel, from the moments of a convolution's output [pixels, channels],
// to which `bias` is still to be added.
//
// Block (x, y) sums over `chunk` pixels of one slab of channels, `lanes` vectors of N; the last block
// of a slab to end gathers the slab's sums, and for a layer norm the last of these everything. So the
// order of every sum is fixed. `counters`, one for each slab and one more, are 0 before and after.
//
// Sums are of differences from the first pixel, which do not cancel when the mean is far from zero.
template <int N>
__device__ __forceinline__ void moments(
    const element* __restrict__ values, int pixels, int channels, int lanes, int chunk,
    float* partial, unsigned* counters, float* statistics, int norm,
    const float* __restrict__ bias, const float* __restrict__ given_scale,
    const float* __restrict__ given_shift, int outputs, float* scale, float* shift
) {
    __shared__ float sums[N * THREADS];
    __shared__ float squares[N * THREADS];
    __shared__ double totals[2][THREADS];
    __shared__ bool is_last;

    const int thread = threadIdx.x;
    const int rows = THREADS / lanes;
    const int lane = thread % lanes;
    const int row = thread / lanes;
    const int width = lanes * N;
    const int start = blockIdx.y * width;
    const int first = blockIdx.x * chunk;
    const int end = first + chunk < pixels ? first + chunk : pixels;

    float sum[N], square[N], pivot[N];
    const element* own = values + start + lane * N;
    {
        Packed<N> packed;
        packed.load(own);
        packed.unpack(pivot);
    }
#pragma unroll
    for (int item = 0; item < N; ++item) {
        sum[item] = 0.0f;
        square[item] = 0.0f;
    }
    if (row < rows) {
        const int together = 4;
        int pixel = first + row;
        for (; pixel + (together - 1) * rows < end; pixel += together * rows) {
            Packed<N> packed[together];
#pragma unroll
            for (int number = 0; number < together; ++number) {
                packed[number].load(own + static_cast<size_t>(pixel + number * rows) * channels);
            }
#pragma unroll
            for (int number = 0; number < together; ++number) {
                float unpacked[N];
                packed[number].unpack(unpacked);
#pragma unroll
                for (int item = 0; item < N; ++item) {
                    const float difference = unpacked[item] - pivot[item];
                    sum[item] += difference;
                    square[item] += difference * difference;
                }
            }
        }
        for (; pixel < end; pixel += rows) {
            Packed<N> packed;
            float unpacked[N];
            packed.load(own + static_cast<size_t>(pixel) * channels);
            packed.unpack(unpacked);
#pragma unroll
            for (int item = 0; item < N; ++item) {
                const float difference = unpacked[item] - pivot[item];
                sum[item] += difference;
                square[item] += difference * difference;
            }
        }
    }
#pragma unroll
    for (int item = 0; item < N; ++item) {
        sums[item * THREADS + thread] = sum[item];
        squares[item * THREADS + thread] = square[item];
    }
    // Rows are added to rows, half of those that are left to the other half.
    for (int left = rows; left > 1;) {
        const int half = (left + 1) / 2;
        __syncthreads();
        if (row + half < left) {
#pragma unroll
            for (int item = 0; item < N; ++item) {
                const int to = item * THREADS + thread;
                sums[to] += sums[to + half * lanes];
                squares[to] += squares[to + half * lanes];
            }
        }
        left = half;
    }
    __syncthreads();
    // A slab has at most THREADS channels.
    if (thread < width) {
        const int from = (thread % N) * THREADS + thread / N;
        float* to = partial + (static_cast<size_t>(blockIdx.y) * gridDim.x + blockIdx.x) * 2 * width;
        to[thread] = sums[from];
        to[width + thread] = squares[from];
    }
    __threadfence();
    __syncthreads();
    if (thread == 0) {
        is_last = atomicAdd(&counters[blockIdx.y], 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!is_last) {
        return;
    }
    __threadfence();

    const int groups = THREADS / width;
    const int channel = thread % width;
    const int group = thread / width;
    double total = 0.0, total_square = 0.0;
    if (group < groups) {
        // Written by other blocks while this one was running.
        const volatile float* from =
            partial + static_cast<size_t>(blockIdx.y) * gridDim.x * 2 * width + channel;
        for (unsigned block = group; block < gridDim.x; block += groups) {
            total += from[static_cast<size_t>(block) * 2 * width];
            total_square += from[static_cast<size_t>(block) * 2 * width + width];
        }
    }
    totals[0][thread] = total;
    totals[1][thread] = total_square;
    __syncthreads();
    if (thread < width) {
        for (int other = 1; other < groups; ++other) {
            total += totals[0][other * width + thread];
            total_square += totals[1][other * width + thread];
        }
        const int whole = start + thread;
        const double difference = total / pixels;
        double variance = total_square / pixels - difference * difference;
        variance = variance > 0.0 ? variance : 0.0;
        const double mean = to_float(values[whole]) + difference;
        if (norm == LAYER) {
            statistics[whole] = static_cast<float>(mean + (bias ? bias[whole % outputs] : 0.0f));
            statistics[channels + whole] = static_cast<float>(variance);
        } else {
            // A bias would be taken away again with the mean.
            const double inner = 1.0 / sqrt(variance + EPSILON);
            const double outer = norm == ADAPTIVE ? given_scale[whole] : 1.0;
            const double added = norm == ADAPTIVE ? given_shift[whole] : 0.0;
            scale[whole] = static_cast<float>(inner * outer);
            shift[whole] = static_cast<float>(added - inner * outer * mean);
        }
    }
    if (thread == 0) {
        counters[blockIdx.y] = 0;
    }
    if (norm != LAYER) {
        return;
    }

    __threadfence();
    __syncthreads();
    if (thread == 0) {
        is_last = atomicAdd(&counters[gridDim.y], 1u) == gridDim.y - 1;
    }
    __syncthreads();
    if (!is_last) {
        return;
    }
    __threadfence();
    const volatile float* means = statistics;
    const volatile float* variances = statistics + channels;
    // The variance between channels adds to that within them.
    double both[2] = {0.0, 0.0};
    for (int pass = 0; pass < 2; ++pass) {
        double part = 0.0;
        for (int other = thread; other < channels; other += THREADS) {
            const double distance = means[other] - both[0];
            part += pass == 0 ? means[other] : variances[other] + distance * distance;
        }
        totals[pass][thread] = part;
        for (int half = THREADS / 2; half > 0; half /= 2) {
            __syncthreads();
            if (thread < half) {
                totals[pass][thread] += totals[pass][thread + half];
            }
        }
        __syncthreads();
        both[pass] = totals[pass][0] / channels;
    }
    const double count = static_cast<double>(pixels) * channels;
    const double deviation = sqrt(both[1] * count / (count - 1.0)) + EPSILON;
    for (int output = thread; output < outputs; output += THREADS) {
        const double outer = given_scale[output] / deviation;
        const double mean = both[0] - (bias ? bias[output] : 0.0f);
        scale[output] = static_cast<float>(outer);
        shift[output] = static_cast<float>(given_shift[output] - outer * mean);
    }
    if (thread == 0) {
        counters[gridDim.y] = 0;
    }
}

// Rows of a result that a thread computes.
#define ROWS 4

// Scales, shifts and activates a convolution's output [tall / phases, wide / phases, source_channels],
// whose channels are the pixels of squares of `phases` x `phases`, adds the interior of a residual
// with a border of its own, and surrounds the result with a border.
template <int N>
__device__ __forceinline__ void finish(
    const element* __restrict__ source, int source_channels, int phases, int channels, int tall,
    int wide, const float* __restrict__ scale, const float* __restrict__ shift, int activation,
    float slope, const element* __restrict__ residual, int residual_edge, int edge, int padding,
    element* __restrict__ result
) {
    const int vectors = channels / N;
    const int across = wide + 2 * edge;
    const int index = blockIdx.x * THREADS + threadIdx.x;
    if (index >= across * vectors) {
        return;
    }
    const int column = index / vectors;
    const int channel = (index % vectors) * N;
    const int x = continued(column - edge, wide, padding);
    const int first = blockIdx.y * ROWS;
    const int down = tall + 2 * edge;

    Packed<N> loaded[ROWS], added[ROWS];
    bool inside[ROWS];
#pragma unroll
    for (int number = 0; number < ROWS; ++number) {
        const int y = continued(first + number - edge, tall, padding);
        inside[number] = first + number < down && x >= 0 && y >= 0;
        if (inside[number]) {
            const size_t pixel = static_cast<size_t>(y / phases) * (wide / phases) + x / phases;
            const int phase = (y % phases) * phases + x % phases;
            loaded[number].load(source + pixel * source_channels + phase * channels + channel);
            if (residual) {
                const size_t place = static_cast<size_t>(y + residual_edge)
                    * (wide + 2 * residual_edge) + x + residual_edge;
                added[number].load(residual + place * channels + channel);
            }
        }
    }
    float scales[N], shifts[N];
#pragma unroll
    for (int item = 0; item < N; ++item) {
        scales[item] = scale ? scale[channel + item] : 1.0f;
        shifts[item] = shift ? shift[channel + item] : 0.0f;
    }
#pragma unroll
    for (int number = 0; number < ROWS; ++number) {
        if (first + number >= down) {
            return;
        }
        float values[N];
        if (inside[number]) {
            loaded[number].unpack(values);
#pragma unroll
            for (int item = 0; item < N; ++item) {
                values[item] = activate(values[item] * scales[item] + shifts[item], activation, slope);
            }
            if (residual) {
                float more[N];
                added[number].unpack(more);
#pragma unroll
                for (int item = 0; item < N; ++item) {
                    values[item] += more[item];
                }
            }
        } else {
#pragma unroll
            for (int item = 0; item < N; ++item) {
                values[item] = 0.0f;
            }
        }
        Packed<N> packed;
        packed.pack(values);
        packed.store(result + (static_cast<size_t>(first + number) * across + column) * channels + channel);
    }
}

#define FORMS(suffix, n)                                                                            \
    KERNEL moments_##suffix(                         \
        const element* values, int pixels, int channels, int lanes, int chunk, float* partial,      \
        unsigned* counters, float* statistics, int norm, const float* bias,                         \
        const float* given_scale, const float* given_shift, int outputs, float* scale, float* shift \
    ) {                                                                                             \
        moments<n>(values, pixels, channels, lanes, chunk, partial, counters, statistics, norm,     \
                   bias, given_scale, given_shift, outputs, scale, shift);                          \
    }                                                                                               \
    KERNEL finish_##suffix(                          \
        const element* source, int source_channels, int phases, int channels, int tall, int wide,   \
        const float* scale, const float* shift, int activation, float slope,                        \
        const element* residual, int residual_edge, int edge, int padding, element* result          \
    ) {                                                                                             \
        finish<n>(source, source_channels, phases, channels, tall, wide, scale, shift, activation,  \
                  slope, residual, residual_edge, edge, padding, result);                           \
    }

FORMS(wide, WIDE)
FORMS(single, 1)

// Pixels of the large map along an edge that a block corrects, and input channels that it takes at
// a time.
#define POSITIONS 8
#define INPUTS 128

// Corrects the outermost ring of an enlargement by phases, along two opposite edges: adds to `output`
// [tall, wide, 4 * outputs] what the outer row or column of the 5x5 kernel makes of the difference
// between the reflected and the replicated second pixel beyond the edge. `small` [tall + 2, wide + 2,
// inputs] has a replicated border; `weight` is [2, 5, inputs, outputs], the near edge first.
//
// Block (x, y, z): POSITIONS pixels along edge y, and `group` outputs.
KERNEL ring(
    element* output, const element* __restrict__ small, const element* __restrict__ weight, int tall,
    int wide, int inputs, int outputs, int group, int along_rows
) {
    __shared__ float4 differences[INPUTS][(POSITIONS + 4) / 4];
    __shared__ float sums[POSITIONS * THREADS];

    const int thread = threadIdx.x;
    const int far = blockIdx.y;
    const int length = along_rows ? wide : tall;
    const int depth = along_rows ? tall : wide;
    const int outer = far ? depth - 1 : 0;
    const int inner = far ? depth - 2 : 1;
    const int start = blockIdx.x * POSITIONS;
    const int first_output = blockIdx.z * group;
    const int splits = THREADS / group;
    const int split = thread / group;
    const int own = first_output + thread % group;
    const bool active = split < splits && own < outputs;

    float sum[POSITIONS];
#pragma unroll
    for (int position = 0; position < POSITIONS; ++position) {
        sum[position] = 0.0f;
    }
    for (int begin = 0; begin < inputs; begin += INPUTS) {
        const int now = inputs - begin < INPUTS ? inputs - begin : INPUTS;
        __syncthreads();
        for (int item = thread; item < now * (POSITIONS + 4); item += THREADS) {
            const int input = item % now;
            const int place = item / now;
            const int index = start + place - 2;
            // The corners, where both directions are reflected, belong to the rows.
            const bool corner = !along_rows && (index == -2 || index == 2 * length + 1);
            float difference = 0.0f;
            if (index < 2 * length + 2 && !corner) {
                const int replicated = continued(index, 2 * length, REPLICATE) / 2;
                const int reflected =
                    along_rows ? continued(index, 2 * length, REFLECT) / 2 : replicated;
                const size_t inner_pixel = along_rows
                    ? static_cast<size_t>(inner + 1) * (wide + 2) + reflected + 1
                    : static_cast<size_t>(reflected + 1) * (wide + 2) + inner + 1;
                const size_t outer_pixel = along_rows
                    ? static_cast<size_t>(outer + 1) * (wide + 2) + replicated + 1
                    : static_cast<size_t>(replicated + 1) * (wide + 2) + outer + 1;
                difference = to_float(small[inner_pixel * inputs + begin + input])
                    - to_float(small[outer_pixel * inputs + begin + input]);
            }
            reinterpret_cast<float*>(&differences[input][0])[place] = difference;
        }
        __syncthreads();
        if (active) {
            const int share = (now + splits - 1) / splits;
            const int stop = (split + 1) * share < now ? (split + 1) * share : now;
            const element* column =
                weight + (static_cast<size_t>(far) * 5 * inputs + begin) * outputs + own;
#pragma unroll 2
            for (int input = split * share; input < stop; ++input) {
                float window[POSITIONS + 4];
#pragma unroll
                for (int quarter = 0; quarter < (POSITIONS + 4) / 4; ++quarter) {
                    const float4 four = differences[input][quarter];
                    window[4 * quarter] = four.x;
                    window[4 * quarter + 1] = four.y;
                    window[4 * quarter + 2] = four.z;
                    window[4 * quarter + 3] = four.w;
                }
#pragma unroll
                for (int tap = 0; tap < 5; ++tap) {
                    const float factor = to_float(
                        column[(static_cast<size_t>(tap) * inputs + input) * outputs]);
#pragma unroll
                    for (int position = 0; position < POSITIONS; ++position) {
                        sum[position] += factor * window[position + tap];
                    }
                }
            }
        }
    }
#pragma unroll
    for (int position = 0; position < POSITIONS; ++position) {
        sums[position * THREADS + thread] = sum[position];
    }
    __syncthreads();
    for (int item = thread; item < POSITIONS * group; item += THREADS) {
        const int position = item / group;
        const int channel = first_output + item % group;
        const int place = start + position;
        if (channel >= outputs || place >= 2 * length) {
            continue;
        }
        float correction = 0.0f;
        for (int other = 0; other < splits; ++other) {
            correction += sums[position * THREADS + other * group + item % group];
        }
        const int along = place / 2;
        const int phase = place % 2;
        const size_t pixel = along_rows ? static_cast<size_t>(outer) * wide + along
                                        : static_cast<size_t>(along) * wide + outer;
        const int square = along_rows ? 2 * far + phase : 2 * phase + far;
        element* to = output + (pixel * 4 + square) * outputs + channel;
        *to = from_float(to_float(*to) + correction);
    }
}

// A picture's bytes as values in [-1, 1], continued by reflection to [tall, wide], then by a border,
// whose columns become channels: channel tap * colours + colour of a pixel is that colour of the
// pixel `tap - edge` to the right; [tall + 2 * edge, wide, stored]. Where a row continues is `red`,
// `green` and `blue` bytes behind `bytes`, `step` bytes a pixel.
template <int COLOURS>
__device__ __forceinline__ void read_picture(
    const unsigned char* __restrict__ bytes, int width, int height, int step, int red, int green,
    int blue, int tall, int wide, int edge, int padding, int stored, element* __restrict__ result
) {
    const int vectors = stored / WIDE;
    const int index = blockIdx.x * THREADS + threadIdx.x;
    if (index >= wide * vectors) {
        return;
    }
    const int column = index / vectors;
    const int channel = (index % vectors) * WIDE;
    const int row = blockIdx.y;
    const int inner_row = continued(row - edge, tall, padding);
    const int y = inner_row < 0 ? -1 : continued(inner_row, height, REFLECT);
    float values[WIDE];
#pragma unroll
    for (int item = 0; item < WIDE; ++item) {
        const int tap = (channel + item) / COLOURS;
        const int colour = (channel + item) % COLOURS;
        const int inner_column = continued(column + tap - edge, wide, padding);
        values[item] = 0.0f;
        if (y >= 0 && inner_column >= 0 && tap <= 2 * edge) {
            const int x = continued(inner_column, width, REFLECT);
            const unsigned char* pixel = bytes + (static_cast<size_t>(y) * width + x) * step;
            float value;
            if (COLOURS == 1) {
                // The luma of ITU-R BT.601.
                value = 0.299f * pixel[red] + 0.587f * pixel[green] + 0.114f * pixel[blue];
            } else {
                value = pixel[colour == 0 ? red : colour == 1 ? green : blue];
            }
            values[item] = value / 127.5f - 1.0f;
        }
    }
    Packed<WIDE> packed;
    packed.pack(values);
    packed.store(result + (static_cast<size_t>(row) * wide + column) * stored + channel);
}

#define READ_PICTURE(suffix, colours)                                                              \
    KERNEL read_picture_##suffix(                   \
        const unsigned char* bytes, int width, int height, int step, int red, int green, int blue, \
        int tall, int wide, int edge, int padding, int stored, element* result                     \
    ) {                                                                                            \
        read_picture<colours>(bytes, width, height, step, red, green, blue, tall, wide, edge,      \
                              padding, stored, result);                                            \
    }

READ_PICTURE(grey, 1)
READ_PICTURE(colours, 3)

__device__ __forceinline__ float to_byte(float value) {
    // The half turns truncation into rounding to nearest.
    value = value * 127.5f + (127.5f + 0.5f);
    return static_cast<float>(static_cast<unsigned char>(value < 0.0f ? 0.0f : value > 255.0f ? 255.0f : value));
}

// The last convolution's output [.. / phases, wide / phases, source_channels], before its bias and
// activation, as bytes, mixed with the original's: `strength`, one number on the device, is 0 for
// the original and 1 for the translation. `fourth` is the offset of a pixel's fourth byte or -1;
// it becomes the original's byte at `alpha`, or 255 where that is -1.
KERNEL write_picture(
    const element* __restrict__ source, int source_channels, int phases, int colours, int wide,
    const float* __restrict__ bias, int activation, float slope, int width, int height,
    const unsigned char* __restrict__ original, int original_step, int original_red,
    int original_green, int original_blue, int alpha, const float* __restrict__ strength,
    unsigned char* __restrict__ bytes, int step, int red, int green, int blue, int fourth
) {
    const int x = blockIdx.x * THREADS + threadIdx.x;
    const int y = blockIdx.y;
    if (x >= width) {
        return;
    }
    const size_t block = static_cast<size_t>(y / phases) * (wide / phases) + x / phases;
    const int phase = (y % phases) * phases + x % phases;
    const element* from = source + block * source_channels + phase * colours;
    float written[3];
#pragma unroll
    for (int colour = 0; colour < 3; ++colour) {
        const int channel = colour < colours ? colour : 0;
        const float value = to_float(from[channel]) + (bias ? bias[channel] : 0.0f);
        written[colour] = to_byte(activate(value, activation, slope));
    }
    const size_t place = static_cast<size_t>(y) * width + x;
    const unsigned char* before = original + place * original_step;
    const float share = *strength;
    if (share < 1.0f) {
        const int offsets[3] = {original_red, original_green, original_blue};
#pragma unroll
        for (int colour = 0; colour < 3; ++colour) {
            const float old = before[offsets[colour]];
            written[colour] = old + share * (written[colour] - old) + 0.5f;
        }
    }
    unsigned char* to = bytes + place * step;
    to[red] = static_cast<unsigned char>(written[0]);
    to[green] = static_cast<unsigned char>(written[1]);
    to[blue] = static_cast<unsigned char>(written[2]);
    if (fourth >= 0) {
        to[fourth] = alpha >= 0 ? before[alpha] : static_cast<unsigned char>(255);
    }
}
