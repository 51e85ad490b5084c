// Autograd around norms that are computed outside libtorch: what to save for the backward pass, and
// where gradients go.

#include <cstdint>
#include <memory>
#include <mutex>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include "failure.h"

extern "C" {

// As in kernels.rs. Parameters are float32; null where there are none.
struct MunitNorm {
    std::int32_t is_bf16;
    std::int32_t extent;
    float slope;
    std::int64_t samples, pixels, channels;
    const float* scale;
    const float* shift;
    std::int64_t parameters;
    // Mean and inverse deviation of each sample's each channel.
    double* statistics;
};

using MunitForward = bool (*)(const MunitNorm* norm, const void* x, const void* residual, void* y);
using MunitBackward = bool (*)(
    const MunitNorm* norm, const void* x, const void* dy, void* dx, float* dscale, float* dshift);

// Null, or what went wrong, to be freed.
char* munit_normalise(
    const at::Tensor* x,
    const at::Tensor* scale,
    const at::Tensor* shift,
    const at::Tensor* residual,
    std::int32_t extent,
    float slope,
    MunitForward forward,
    MunitBackward backward,
    at::Tensor** result);
}

namespace {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

constexpr auto channels_last = at::MemoryFormat::ChannelsLast;

struct Options {
    std::int32_t extent;
    float slope;
    MunitForward forward;
    MunitBackward backward;
};

MunitNorm describe(
    const at::Tensor& x,
    const at::Tensor& scale,
    const at::Tensor& shift,
    const at::Tensor& statistics,
    const Options& options) {
    MunitNorm norm{};
    norm.is_bf16 = x.scalar_type() == at::kBFloat16;
    norm.extent = options.extent;
    norm.slope = options.slope;
    norm.samples = x.size(0);
    norm.channels = x.size(1);
    norm.pixels = x.size(2) * x.size(3);
    if (scale.defined()) {
        norm.scale = scale.const_data_ptr<float>();
        norm.shift = shift.const_data_ptr<float>();
        norm.parameters = scale.numel();
    }
    norm.statistics = statistics.data_ptr<double>();
    return norm;
}

class Normalise final : public torch::autograd::Node {
public:
    variable_list apply(variable_list&& gradients) override {
        TORCH_CHECK(
            !at::GradMode::is_enabled(), "the gradient of a fused norm cannot be differentiated again");
        variable_list result(4);
        if (!gradients[0].defined()) {
            return result;
        }
        std::lock_guard<std::mutex> lock(mutex_);
        const auto x = x_.unpack();
        const auto scale = scale_.unpack();
        const auto shift = shift_.unpack();
        const auto dy = gradients[0].to(x.scalar_type()).contiguous(channels_last);
        if (task_should_compute_output(3)) {
            result[3] = dy;
        }
        if (task_should_compute_output({{0, 3}})) {
            const auto dx = at::empty_like(x, channels_last);
            const auto norm = describe(x, scale, shift, statistics_, options_);
            float* dscale = nullptr;
            float* dshift = nullptr;
            if (scale.defined()) {
                result[1] = at::empty_like(scale);
                result[2] = at::empty_like(shift);
                dscale = result[1].data_ptr<float>();
                dshift = result[2].data_ptr<float>();
            }
            TORCH_CHECK(
                options_.backward(
                    &norm, x.const_data_ptr(), dy.const_data_ptr(), dx.data_ptr(), dscale, dshift),
                "the backward pass of a fused norm failed");
            result[0] = dx;
        }
        return result;
    }

    void release_variables() override {
        std::lock_guard<std::mutex> lock(mutex_);
        x_.reset_data();
        scale_.reset_data();
        shift_.reset_data();
        statistics_.reset();
    }

    std::string name() const override {
        return "MunitNormaliseBackward";
    }

    SavedVariable x_, scale_, shift_;
    at::Tensor statistics_;
    Options options_{};
};

void check(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift, const at::Tensor& residual) {
    TORCH_CHECK(x.dim() == 4, "a fused norm takes a map of 4 dimensions, not ", x.dim());
    TORCH_CHECK(x.numel() > 0, "a fused norm takes a map that is not empty");
    TORCH_CHECK(x.is_cpu(), "a fused norm takes a map on the CPU, not on ", x.device());
    TORCH_CHECK(
        x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16,
        "a fused norm takes a map of float32 or bfloat16, not of ",
        x.scalar_type());
    TORCH_CHECK(scale.defined() == shift.defined(), "a fused norm takes scale and shift together");
    if (scale.defined()) {
        const auto count = x.size(0) * x.size(1);
        for (const auto& parameter : {scale, shift}) {
            TORCH_CHECK(
                parameter.is_cpu() && parameter.scalar_type() == at::kFloat && parameter.is_contiguous() &&
                    (parameter.numel() == x.size(1) || parameter.numel() == count),
                "scale and shift of a fused norm are a float32 for each channel");
        }
        TORCH_CHECK(scale.numel() == shift.numel(), "scale and shift of a fused norm are alike");
    }
    if (residual.defined()) {
        TORCH_CHECK(
            residual.sizes() == x.sizes() && residual.scalar_type() == x.scalar_type() && residual.is_cpu(),
            "the residual of a fused norm is like its map");
    }
}

at::Tensor normalise(
    const at::Tensor& x,
    const at::Tensor& scale,
    const at::Tensor& shift,
    const at::Tensor& residual,
    const Options& options) {
    check(x, scale, shift, residual);
    std::shared_ptr<Normalise> node;
    if (torch::autograd::compute_requires_grad(x, scale, shift, residual)) {
        node = std::shared_ptr<Normalise>(new Normalise(), torch::autograd::deleteNode);
        node->set_next_edges(torch::autograd::collect_next_edges(x, scale, shift, residual));
    }
    at::Tensor y;
    {
        at::AutoDispatchBelowADInplaceOrView guard;
        const auto map = x.contiguous(channels_last);
        y = at::empty_like(map, channels_last);
        const auto statistics = at::empty({x.size(0), x.size(1), 2}, x.options().dtype(at::kDouble));
        const auto norm = describe(map, scale, shift, statistics, options);
        at::Tensor added;
        if (residual.defined()) {
            added = residual.contiguous(channels_last);
        }
        TORCH_CHECK(
            options.forward(
                &norm,
                map.const_data_ptr(),
                added.defined() ? added.const_data_ptr() : nullptr,
                y.data_ptr()),
            "a fused norm failed");
        if (node) {
            node->x_ = SavedVariable(map, false);
            node->scale_ = SavedVariable(scale, false);
            node->shift_ = SavedVariable(shift, false);
            node->statistics_ = statistics;
            node->options_ = options;
        }
    }
    if (node) {
        torch::autograd::set_history(y, node);
    }
    return y;
}

at::Tensor given(const at::Tensor* tensor) {
    return tensor == nullptr ? at::Tensor() : *tensor;
}

} // namespace

char* munit_normalise(
    const at::Tensor* x,
    const at::Tensor* scale,
    const at::Tensor* shift,
    const at::Tensor* residual,
    std::int32_t extent,
    float slope,
    MunitForward forward,
    MunitBackward backward,
    at::Tensor** result) {
    return failure_of([&] {
        const Options options{extent, slope, forward, backward};
        *result = new at::Tensor(normalise(*x, given(scale), given(shift), given(residual), options));
    });
}
