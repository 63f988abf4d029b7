// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_PROGRAM_NAME_HPP
#define DRO_BACKEND_CUDA_PROGRAM_NAME_HPP

/// \file
/// What a program is called in messages. Plain C++.

#include <cstddef>
#include <string>
#include <string_view>

namespace dro::detail::cuda {

/// "dro::detail::fill_program<float>", as the compiler writes it. Not to be put into a lambda, whose name tells less.
template <class Program>
[[nodiscard]] const char* program_name() {
  static const std::string name = [](std::string_view function) {
    constexpr std::string_view before = "Program = ";
    const std::size_t begin = function.find(before);
    if (begin == std::string_view::npos) return std::string(function);
    const std::size_t from = begin + before.size();
    return std::string(function.substr(from, function.rfind(']') - from));
  }(__PRETTY_FUNCTION__);
  return name.c_str();
}

}  // namespace dro::detail::cuda

#endif
