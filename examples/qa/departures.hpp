// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_QA_DEPARTURES_HPP
#define DRO_EXAMPLES_QA_DEPARTURES_HPP

/// \file
/// Where the code published with the paper (Shi et al. 2025) leaves the paper's method. Each departure has a name, so
/// that what it costs can be measured; none is ever on by itself.

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <string_view>

#include <dro/error.hpp>
#include <dro/ranking/sampling.hpp>

namespace qa {

struct departures {
  bool mean_token_weights = false;
  bool one_sample = false;
  bool duplicates_dropped = false;
  bool unparsed_dropped = false;
  bool uncorrected_sampling = false;
  bool divided_by_four = false;
  friend bool operator==(const departures&, const departures&) = default;
};

struct named_departure {
  std::string_view name;
  bool departures::*is_on;
  std::string_view description;
};

inline constexpr std::array named_departures = {
    named_departure{"mean-token-weights", &departures::mean_token_weights, "w = p(y|x,d_z)^(1/|y|), |y| in words"},
    named_departure{"one-sample", &departures::one_sample, "one list a question, hence of weight 1"},
    named_departure{"duplicates-dropped", &departures::duplicates_dropped, "equal lists count once"},
    named_departure{"unparsed-dropped", &departures::unparsed_dropped, "lists lost after normalising, not before"},
    named_departure{"uncorrected-sampling", &departures::uncorrected_sampling, "drawn at temperature 0.7, top-p 0.95"},
    named_departure{"divided-by-four", &departures::divided_by_four, "sum over the batch / 4, whatever its size"},
};

/// The sampler of the published code, which its weights do not know of.
inline constexpr dro::sampling published_sampling{.temperature = 0.7, .top_p = 0.95};

/// What share of the lists is lost with `unparsed_dropped`. Ours always parse; with a language model the share depends
/// on the model, and this one is made up.
inline constexpr double unparsed_share = 0.2;

/// All that the published code does to lists that parse.
inline constexpr departures published{.mean_token_weights = true,
                                      .one_sample = true,
                                      .duplicates_dropped = true,
                                      .uncorrected_sampling = true,
                                      .divided_by_four = true};

/// Those named. Throws dro::option_error, with the names there are, for any other.
[[nodiscard]] inline departures find_departures(std::span<const std::string> names) {
  departures d;
  for (const std::string& name : names) {
    const auto* found = std::find_if(named_departures.begin(), named_departures.end(),
                                     [&](const named_departure& n) { return n.name == name; });
    if (found == named_departures.end()) {
      std::string known;
      for (const named_departure& n : named_departures) known += (known.empty() ? "" : ", ") + std::string(n.name);
      throw dro::option_error("--departure: no departure \"" + name + "\"; there are " + known);
    }
    d.*(found->is_on) = true;
  }
  return d;
}

/// How a run differs from what its method does: for measuring what a part of the method is worth.
struct variation {
  departures departs = {};          ///< of dro-plain; other methods have nothing to depart from
  bool is_corrected = false;        ///< lists are drawn and lost as `departs` says, but weighed as the method has it
  bool selector_is_frozen = false;  ///< of the methods that run expectation maximisation
  bool reader_is_frozen = false;    ///< likewise
};

}  // namespace qa

#endif
