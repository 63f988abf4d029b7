// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string_view>

#include <dro/backend/cuda/program_name.hpp>

namespace dro_test {
struct program {};
template <class T>
struct program_of {};
}  // namespace dro_test

TEST_CASE("programs are called what they are") {
  using dro::detail::cuda::program_name;
  CHECK(std::string_view(program_name<dro_test::program>()) == "dro_test::program");
  CHECK(std::string_view(program_name<dro_test::program_of<float>>()) == "dro_test::program_of<float>");
  CHECK(program_name<dro_test::program>() == program_name<dro_test::program>());
}
