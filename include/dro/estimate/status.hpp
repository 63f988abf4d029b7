// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_ESTIMATE_STATUS_HPP
#define DRO_ESTIMATE_STATUS_HPP

/// \file
/// What became of a query in a step. Numerical trouble is not an error: it is stated here, counted in the report, and
/// the query's coefficients are 0.

#include <cstdint>

#include <dro/config.hpp>

namespace dro {

/// Kept as std::int32_t, [queries × 1], in the backend's memory.
enum class status : std::int32_t {
  ok = 0,
  impossible = 1,    ///< every sample has weight 0: nothing can be learned from this query in this step
  not_a_number = 2,  ///< some log-probability is NaN
  unbounded = 3,   ///< some log-weight is +inf: a log-likelihood of +inf, or a draw that its proposal calls impossible
  degenerate = 4,  ///< too few samples for what was asked (leave-one-out over one sample), or no sample at all
  support =
      5,  ///< the proposal does not cover the selector (it was truncated): used, but biased and without a baseline
};

inline constexpr int status_count = 6;

/// Whether a query in this status takes part in the step; in any other its coefficients are 0.
[[nodiscard]] DRO_HOST_DEVICE constexpr bool is_used(status s) { return s == status::ok || s == status::support; }

/// The status as a word.
[[nodiscard]] constexpr const char* to_string(status s) {
  switch (s) {
    case status::ok:
      return "ok";
    case status::impossible:
      return "impossible";
    case status::not_a_number:
      return "not a number";
    case status::unbounded:
      return "unbounded";
    case status::degenerate:
      return "degenerate";
    case status::support:
      return "support";
  }
  return "unknown";
}

}  // namespace dro

#endif
