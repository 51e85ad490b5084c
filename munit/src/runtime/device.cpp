// Streams and memory of a device by libtorch's interfaces that all devices share: no CUDA header, and
// no library that libtorch does not load itself.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>

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

extern "C" void munit_free_message(char* message) { std::free(message); }
