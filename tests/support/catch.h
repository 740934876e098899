// Catch2 2 or 3 behind one include.
#pragma once
// LibTorch's logging defines a CHECK of its own, which would silently replace Catch's when its headers come later.
#if __has_include(<c10/util/Logging.h>)
#include <c10/util/Logging.h>
#undef CHECK
#endif
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
