// Adam over many tensors in one pass over memory, which tch has no entry for.

#include <cstddef>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/_fused_adam.h>

#include "failure.h"

extern "C" {

// As in adam.rs.
struct MunitAdamStep {
    double learning_rate, beta1, beta2, weight_decay, epsilon;
    const at::Tensor* updates;
    // Both null where gradients are what they should be.
    const at::Tensor* scale;
    const at::Tensor* overflow;
};

// Null, or what went wrong, to be freed.
char* munit_adam(
    const at::Tensor* const* parameters,
    const at::Tensor* const* gradients,
    const at::Tensor* const* means,
    const at::Tensor* const* mean_squares,
    std::size_t count,
    const MunitAdamStep* step);
}

char* munit_adam(
    const at::Tensor* const* parameters,
    const at::Tensor* const* gradients,
    const at::Tensor* const* means,
    const at::Tensor* const* mean_squares,
    std::size_t count,
    const MunitAdamStep* step) {
    return failure_of([&] {
        if (count == 0) {
            return;
        }
        const auto list = [count](const at::Tensor* const* tensors) {
            std::vector<at::Tensor> result;
            result.reserve(count);
            for (std::size_t index = 0; index < count; ++index) {
                result.push_back(*tensors[index]);
            }
            return result;
        };
        const auto own = list(parameters);
        const auto optional = [](const at::Tensor* tensor) {
            return tensor == nullptr ? std::nullopt : std::optional<at::Tensor>(*tensor);
        };
        // Never increased here, so that all may share it.
        const std::vector<at::Tensor> all_updates(count, *step->updates);
        at::_fused_adam_(
            own,
            list(gradients),
            list(means),
            list(mean_squares),
            {},
            all_updates,
            step->learning_rate,
            step->beta1,
            step->beta2,
            step->weight_decay,
            step->epsilon,
            /*amsgrad=*/false,
            /*maximize=*/false,
            optional(step->scale),
            optional(step->overflow));
    });
}
