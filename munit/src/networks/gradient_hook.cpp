// A call as soon as backward has a parameter's whole gradient, which tch has no entry for.

#include <memory>
#include <stdexcept>

#include <ATen/core/Tensor.h>

#include "failure.h"

extern "C" {

// Takes over `data`: `call` may be called with it until `release` has been, false being a failure.
// Null, or what went wrong, to be freed.
char* munit_on_gradient(
    const at::Tensor* parameter,
    bool (*call)(void* data, const at::Tensor* gradient),
    void (*release)(void* data),
    void* data);
}

char* munit_on_gradient(
    const at::Tensor* parameter,
    bool (*call)(void* data, const at::Tensor* gradient),
    void (*release)(void* data),
    void* data) {
    return failure_of([&] {
        // Shared, since libtorch copies its hooks.
        const std::shared_ptr<void> owned(data, release);
        TORCH_CHECK(
            parameter->is_leaf() && parameter->requires_grad(),
            "only what is trained has a gradient to wait for");
        parameter->register_hook([owned, call](const at::Tensor& gradient) {
            if (!call(owned.get(), &gradient)) {
                throw std::runtime_error("what follows a gradient failed unexpectedly");
            }
        });
    });
}
