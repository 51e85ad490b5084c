// Runs kernels.cu on the CPU, so that tests need no GPU: a block's threads are fibers that take turns
// from one __syncthreads to the next. Compiled once for each number format, which also names the entry
// point: munit_emulate_fp32, munit_emulate_bf16.

#include <csetjmp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include <ucontext.h>

namespace {

struct Index {
    unsigned x, y, z;
};

struct uint4 {
    unsigned x, y, z, w;
};

struct float4 {
    float x, y, z, w;
};

Index threadIdx, blockIdx, gridDim;

// A thread of a block. Its stack is made once; from one turn to the next it jumps, which costs far less
// than swapcontext's system calls.
struct Fiber {
    ucontext_t context;
    jmp_buf place;
    bool has_started = false;
    bool has_ended = false;
    std::vector<char> stack;
};

jmp_buf scheduler;
Fiber* running;

void yield() {
    if (_setjmp(running->place) == 0) {
        _longjmp(scheduler, 1);
    }
}

uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

unsigned atomicAdd(unsigned* address, unsigned value) {
    const unsigned before = *address;
    *address += value;
    return before;
}

void __threadfence() {}

void __syncthreads() { yield(); }

#define __device__
#define __forceinline__ inline
#define __shared__ static
#define KERNEL static void

#include "kernels.cu"

template <typename... Parameters, std::size_t... Places>
void call(void (*kernel)(Parameters...), void** arguments, std::index_sequence<Places...>) {
    kernel(*static_cast<Parameters*>(arguments[Places])...);
}

template <typename... Parameters>
void call(void (*kernel)(Parameters...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<Parameters...>());
}

// In the order of `Kernel` in mod.rs.
void dispatch(int kernel, void** arguments) {
    switch (kernel) {
    case 0: return call(moments_wide, arguments);
    case 1: return call(moments_single, arguments);
    case 2: return call(finish_wide, arguments);
    case 3: return call(finish_single, arguments);
    case 4: return call(ring, arguments);
    case 5: return call(read_picture_grey, arguments);
    case 6: return call(read_picture_colours, arguments);
    case 7: return call(write_picture, arguments);
    }
}

int kernel_to_run;
void** arguments_to_pass;

void live() {
    for (;;) {
        dispatch(kernel_to_run, arguments_to_pass);
        running->has_ended = true;
        yield();
    }
}

// Runs a fiber to its next __syncthreads or its end.
void give_turn(Fiber& fiber) {
    running = &fiber;
    if (_setjmp(scheduler) != 0) {
        return;
    }
    if (fiber.has_started) {
        _longjmp(fiber.place, 1);
    }
    fiber.has_started = true;
    fiber.stack.resize(64 << 10);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    makecontext(&fiber.context, live, 0);
    setcontext(&fiber.context);
}

} // namespace

extern "C" void ENTRY_POINT(int kernel, const unsigned* grid, void** arguments) {
    static std::mutex one_at_a_time;
    const std::lock_guard<std::mutex> guard(one_at_a_time);
    static std::vector<Fiber> fibers(THREADS);
    kernel_to_run = kernel;
    arguments_to_pass = arguments;
    gridDim = {grid[0], grid[1], grid[2]};
    // The last block first: nothing may depend on their order.
    for (unsigned block = grid[0] * grid[1] * grid[2]; block-- > 0;) {
        blockIdx = {block % grid[0], block / grid[0] % grid[1], block / grid[0] / grid[1]};
        for (Fiber& fiber : fibers) {
            fiber.has_ended = false;
        }
        for (bool any = true; any;) {
            any = false;
            for (unsigned thread = 0; thread < fibers.size(); ++thread) {
                if (!fibers[thread].has_ended) {
                    threadIdx = {thread, 0, 0};
                    give_turn(fibers[thread]);
                    any = any || !fibers[thread].has_ended;
                }
            }
        }
    }
}
