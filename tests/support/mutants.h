// For scripts/mutate-kernels, which includes it before the kernels: one program holds all changes of their sources, each made
// only in a run that asks for its number (GRAFT_MUTANT). An operator is changed as a < Swap<17, '<', 'l'>{} < b, which binds as a
// < b does.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <type_traits>

extern int graft_mutant;

namespace graft::mutants {

// In assembly, so that the hooks of kernels/simt do not see the access.
[[gnu::always_inline]] inline bool made(int id) {
  int now;
  asm("movl graft_mutant(%%rip), %0" : "=r"(now));
  return now == id;
}

// l, g: <=, >=. No type where C++ has none.
template <char kOperator, class A, class B>
auto apply(A a, B b) {
  if constexpr (kOperator == '<') {
    if constexpr (requires { a < b; }) return a < b;
  } else if constexpr (kOperator == 'l') {
    if constexpr (requires { a <= b; }) return a <= b;
  } else if constexpr (kOperator == '>') {
    if constexpr (requires { a > b; }) return a > b;
  } else if constexpr (kOperator == 'g') {
    if constexpr (requires { a >= b; }) return a >= b;
  } else if constexpr (kOperator == '+') {
    if constexpr (requires { a + b; }) return a + b;
  } else if constexpr (kOperator == '-') {
    if constexpr (requires { a - b; }) return a - b;
  } else if constexpr (kOperator == '/') {
    if constexpr (requires { a / b; }) return a / b;
  } else {
    if constexpr (requires { a % b; }) return a % b;
  }
}

template <int kId, char kNow, char kThen>
struct Swap {};
template <int kId, char kNow, char kThen, class A>
struct Left {
  A a;
  template <class B>
  auto with(B b) const {
    using Result = decltype(apply<kNow>(a, b));
    if constexpr (std::is_same_v<decltype(apply<kThen>(a, b)), Result>) {
      return made(kId) ? apply<kThen>(a, b) : apply<kNow>(a, b);
    } else {
      if (made(kId)) std::_Exit(99);  // would not compile
      return apply<kNow>(a, b);
    }
  }
};

#define GRAFT_SWAPPED(o)                                              \
  template <class A, int kId, char kNow, char kThen>                  \
  Left<kId, kNow, kThen, A> operator o(A a, Swap<kId, kNow, kThen>) { \
    return {a};                                                       \
  }                                                                   \
  template <class A, int kId, char kNow, char kThen, class B>         \
  auto operator o(const Left<kId, kNow, kThen, A>& a, B b) {          \
    return a.with(b);                                                 \
  }
GRAFT_SWAPPED(<)
GRAFT_SWAPPED(<=)
GRAFT_SWAPPED(>=)
GRAFT_SWAPPED(+)
GRAFT_SWAPPED(-)
GRAFT_SWAPPED(/)
GRAFT_SWAPPED(%)

// A 64-bit integer whose upper half is lost.
template <int kId>
class Int64 {
 public:
  Int64() = default;
  Int64(std::int64_t value) : value_(made(kId) ? static_cast<std::int32_t>(value) : value) {}
  operator std::int64_t() const { return value_; }
  Int64& operator+=(std::int64_t more) { return *this = value_ + more; }
  Int64& operator++() { return *this = value_ + 1; }

 private:
  std::int64_t value_;
};

}  // namespace graft::mutants
