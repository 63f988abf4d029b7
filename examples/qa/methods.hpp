// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_QA_METHODS_HPP
#define DRO_EXAMPLES_QA_METHODS_HPP

/// \file
/// The training methods that train_qa compares: the same two models, the same features, the same number of passes over
/// the questions; only what is maximised differs.

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include <dro/error.hpp>
#include <dro/models/feature_selector.hpp>

namespace qa {

enum class method_id {
  retriever_order,
  rag_sequence,
  emdr2,
  replug,
  stochastic_rag,
  emdr2_linked,
  read_all,
  leave_one_out,
  gold_supervised,
  dro_plain,
  dro,
  published_code,
};

/// What kind of rival a method is, for the table.
enum class method_group { independent, control, list_wise };

struct method {
  method_id id;
  std::string_view name;
  method_group group;
  std::string_view description;
};

inline constexpr std::array methods = {
    method{method_id::retriever_order, "retriever-order", method_group::independent,
           "BM25's first K; only the reader learns"},
    method{method_id::rag_sequence, "rag-sequence", method_group::independent,
           "marginal of single documents (Lewis 2020)"},
    method{method_id::emdr2, "emdr2", method_group::independent, "the same; reader on the top K (Sachan 2021)"},
    method{method_id::replug, "replug", method_group::independent, "selector distilled from the reader (Shi 2023)"},
    method{method_id::stochastic_rag, "stochastic-rag", method_group::independent,
           "Gumbel top K, straight-through (Zamani 2024)"},
    method{method_id::emdr2_linked, "emdr2-linked", method_group::control, "emdr2 that also sees who names whom"},
    method{method_id::read_all, "read-all", method_group::control, "no selection: every document is read"},
    method{method_id::leave_one_out, "leave-one-out", method_group::list_wise,
           "policy gradient on log p(y), leave-one-out"},
    method{method_id::gold_supervised, "gold-supervised", method_group::control, "selector taught the gold documents"},
    method{method_id::dro_plain, "dro-plain", method_group::list_wise, "DRO with the paper's plain weights"},
    method{method_id::dro, "dro", method_group::list_wise, "DRO with centred weights"},
    method{method_id::published_code, "published-code", method_group::list_wise,
           "DRO as published: one truncated sample"},
};

[[nodiscard]] constexpr std::string_view to_string(method_group group) {
  switch (group) {
    case method_group::independent:
      return "document-independent";
    case method_group::control:
      return "control";
    case method_group::list_wise:
      return "list-wise";
  }
  return "";
}

/// Throws dro::option_error, with the names there are, if there is no such method.
[[nodiscard]] inline const method& find_method(std::string_view name) {
  const auto* found = std::find_if(methods.begin(), methods.end(), [&](const method& m) { return m.name == name; });
  if (found == methods.end()) {
    std::string names;
    for (const method& m : methods) names += (names.empty() ? "" : ", ") + std::string(m.name);
    throw dro::option_error("--method: no method \"" + std::string(name) + "\"; there are " + names);
  }
  return *found;
}

/// The selector a method trains: list-wise ones see earlier choices, independent ones do not.
[[nodiscard]] constexpr dro::models::selector_options selector_for(const method& m) {
  const bool list_wise = m.group == method_group::list_wise || m.id == method_id::gold_supervised;
  return {.earlier_choices = list_wise, .static_links = m.id == method_id::emdr2_linked};
}

}  // namespace qa

#endif
