// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_GENERATIVE_METHODS_HPP
#define DRO_EXAMPLES_GENERATIVE_METHODS_HPP

/// \file
/// The ways of training the two models that are compared.

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include <dro/error.hpp>

namespace generative {

enum class method_id { dro, selector_frozen, reader_frozen, rag_sequence, emdr2, replug, retriever_order };

struct method {
  method_id id;
  std::string_view name;
  std::string_view description;
  double rate;              ///< highest learning rate after warm-up: the best of 1e-3, 2e-3 and 5e-3 on dev questions
  bool one_by_one = false;  ///< its selector judges each document by itself
};

inline constexpr std::array methods = {
    method{method_id::dro, "dro", "both models, evidence of lists", 5e-3},
    method{method_id::selector_frozen, "selector-frozen", "dro, the selector as warm-up left it", 5e-3},
    method{method_id::reader_frozen, "reader-frozen", "dro, the reader as warm-up left it", 5e-3},
    method{method_id::rag_sequence, "rag-sequence", "marginal over single documents", 5e-3, true},
    method{method_id::emdr2, "emdr2", "that for the selector, reader on the best K", 1e-3, true},
    method{method_id::replug, "replug", "selector to the reader's taste, reader on the best K", 2e-3, true},
    method{method_id::retriever_order, "retriever-order", "reader on the first K of BM25", 5e-3},
};

/// Throws dro::option_error, with the names there are.
[[nodiscard]] inline const method& find_method(std::string_view name) {
  const auto* found = std::find_if(methods.begin(), methods.end(), [&](const method& m) { return m.name == name; });
  if (found != methods.end()) return *found;
  std::string known;
  for (const method& m : methods) known += (known.empty() ? "" : ", ") + std::string(m.name);
  throw dro::option_error("--method: no method \"" + std::string(name) + "\"; there are " + known);
}

}  // namespace generative

#endif
