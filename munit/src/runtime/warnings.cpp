// libtorch's warnings, which it would print on standard error, for a function of ours.

#include <cstddef>
#include <string>

#include <c10/util/Exception.h>

namespace {

using Receiver = void (*)(const char* text, std::size_t length);

class Forwarder final : public c10::WarningHandler {
public:
    explicit Forwarder(Receiver receiver) : receiver_(receiver) {}

    void process(const c10::Warning& warning) override {
        const std::string& text = warning.msg();
        receiver_(text.data(), text.size());
    }

private:
    Receiver receiver_;
};

} // namespace

// The handler of a thread must outlive it, so there is one for the whole process.
extern "C" void munit_forward_warnings(Receiver receiver) {
    static Forwarder forwarder(receiver);
    c10::WarningUtils::set_warning_handler(&forwarder);
}
