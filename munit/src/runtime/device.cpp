// Streams and memory of a device by libtorch's interfaces that all devices share: no CUDA header, and
// no library that libtorch does not load itself.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <utility>

#include <dlfcn.h>

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace {

// As tch numbers devices: -1 is the CPU, others are CUDA devices.
c10::Device device_of(int number) {
    if (number < 0) {
        return c10::Device(c10::DeviceType::CPU);
    }
    return c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(number));
}

c10::Stream stream_of(int device, std::int64_t id) {
    return c10::Stream(c10::Stream::UNSAFE, device_of(device), id);
}

template <typename Action>
char* message_of(const Action& action) {
    try {
        action();
        return nullptr;
    } catch (const std::exception& error) {
        return strdup(error.what());
    } catch (...) {
        return strdup("unknown failure of a device");
    }
}

} // namespace

// Each returns null, or a message for munit_free_message.

extern "C" char* munit_stream_new(int device, std::int64_t* id) {
    return message_of([&] {
        const c10::impl::VirtualGuardImpl guard(device_of(device).type());
        *id = guard.getStreamFromGlobalPool(device_of(device)).id();
    });
}

extern "C" char* munit_stream_current(int device, std::int64_t* id) {
    return message_of([&] {
        const c10::impl::VirtualGuardImpl guard(device_of(device).type());
        *id = guard.getStream(device_of(device)).id();
    });
}

// What CUDA's own functions take for it.
extern "C" char* munit_stream_handle(int device, std::int64_t id, void** handle) {
    return message_of([&] {
        const c10::impl::VirtualGuardImpl guard(device_of(device).type());
        *handle = guard.getStreamNativeHandle(stream_of(device, id));
    });
}

extern "C" char* munit_stream_exchange(int device, std::int64_t id, std::int64_t* previous) {
    return message_of([&] {
        const c10::impl::VirtualGuardImpl guard(device_of(device).type());
        *previous = guard.exchangeStream(stream_of(device, id)).id();
    });
}

extern "C" char* munit_stream_synchronize(int device, std::int64_t id) {
    return message_of([&] {
        const c10::impl::VirtualGuardImpl guard(device_of(device).type());
        guard.synchronizeStream(stream_of(device, id));
    });
}

extern "C" char* munit_device_synchronize(int device) {
    return message_of([&] {
        const c10::impl::VirtualGuardImpl guard(device_of(device).type());
        guard.synchronizeDevice(device_of(device).index());
    });
}

extern "C" char* munit_device_memory(int device, std::int64_t* bytes) {
    return message_of([&] {
        const auto all = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
        auto* allocator = c10::getDeviceAllocator(device_of(device).type());
        *bytes = allocator->initialized()
            ? allocator->getDeviceStats(device_of(device).index()).reserved_bytes[all].current
            : 0;
    });
}

extern "C" char* munit_device_release_memory(int device) {
    return message_of([&] {
        auto* allocator = c10::getDeviceAllocator(device_of(device).type());
        if (allocator->initialized()) {
            allocator->emptyCache();
        }
    });
}

// at::cuda::CUDAGraph, whose allocations while it is recorded are its own for as long as it lives. It is
// in the part of libtorch for CUDA, which is loaded only where it is wanted, and its header needs CUDA's;
// so its member functions are looked up by the names that the compiler gives them. Those not found are a
// message like any other failure.

namespace {

template <typename Function>
Function* graph_function(const char* name) {
    void* found = dlsym(RTLD_DEFAULT, name);
    if (found == nullptr) {
        throw std::runtime_error("this libtorch has no CUDA graphs");
    }
    return reinterpret_cast<Function*>(found);
}

// Far more than the dozen members that it has in libtorch 2.11 need.
struct GraphMemory {
    alignas(64) unsigned char bytes[2048];
};

constexpr int CAPTURE_MODE_THREAD_LOCAL = 1;

} // namespace

extern "C" char* munit_graph_begin(void** graph) {
    return message_of([&] {
        const auto construct = graph_function<void(void*, bool)>("_ZN2at4cuda9CUDAGraphC1Eb");
        const auto begin = graph_function<void(void*, std::pair<unsigned long long, unsigned long long>, int)>(
            "_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode");
        auto* memory = new GraphMemory();
        try {
            construct(memory, false);
        } catch (...) {
            delete memory;
            throw;
        }
        // After a failure it is neither destroyed nor freed: the allocator may ask it already.
        begin(memory, {0, 0}, CAPTURE_MODE_THREAD_LOCAL);
        *graph = memory;
    });
}

// After a failure the graph must not be freed: the allocator may still ask it.
extern "C" char* munit_graph_end(void* graph, void** executable) {
    return message_of([&] {
        graph_function<void(void*)>("_ZN2at4cuda9CUDAGraph11capture_endEv")(graph);
        *executable = graph_function<void*(void*)>("_ZN2at4cuda9CUDAGraph19raw_cuda_graph_execEv")(graph);
    });
}

// After a failure: libtorch's own end of a recording throws as soon as CUDA tells it that the recording
// has become invalid. This makes sure that the stream is not recorded any more, and clears the calling
// thread's last error, which would otherwise be taken for that of whatever is called next.
extern "C" void munit_graph_abandon(void* stream) {
    // By CUDA's own C functions, whose statuses are ints; where they are missing nothing was recorded.
    const auto is_capturing = reinterpret_cast<int (*)(void*, int*)>(dlsym(RTLD_DEFAULT, "cudaStreamIsCapturing"));
    const auto end = reinterpret_cast<int (*)(void*, void**)>(dlsym(RTLD_DEFAULT, "cudaStreamEndCapture"));
    const auto destroy = reinterpret_cast<int (*)(void*)>(dlsym(RTLD_DEFAULT, "cudaGraphDestroy"));
    const auto last_error = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "cudaGetLastError"));
    if (is_capturing == nullptr || end == nullptr || destroy == nullptr || last_error == nullptr) {
        return;
    }
    int status = 0;
    void* recorded = nullptr;
    // 0: not recorded; otherwise recorded, or recorded in vain.
    if (is_capturing(stream, &status) == 0 && status != 0 && end(stream, &recorded) == 0 && recorded != nullptr) {
        destroy(recorded);
    }
    last_error();
}

extern "C" char* munit_graph_free(void* graph) {
    return message_of([&] {
        graph_function<void(void*)>("_ZN2at4cuda9CUDAGraphD1Ev")(graph);
        delete static_cast<GraphMemory*>(graph);
    });
}

extern "C" void munit_free_message(char* message) { std::free(message); }
