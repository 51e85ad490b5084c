// What C++ throws, as a string for Rust.

#pragma once

#include <cstring>
#include <exception>

#include <c10/util/Exception.h>

// Null, or what went wrong in `body`, to be freed.
template <typename Body>
char* failure_of(const Body& body) {
    try {
        body();
        return nullptr;
    } catch (const c10::Error& error) {
        return strdup(error.what_without_backtrace());
    } catch (const std::exception& error) {
        return strdup(error.what());
    }
}
