// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODEL_PROPOSALS_SNAPSHOT_HPP
#define DRO_MODEL_PROPOSALS_SNAPSHOT_HPP

/// \file
/// A selector as it was.

#include <concepts>

#include <dro/backend/concept.hpp>
#include <dro/model/concepts.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/draws.hpp>

namespace dro {

/// A copy of a selector whose parameters stay as they are until `refresh`, as a proposal: what draws where drawing lags
/// behind learning. Its draws carry the log q of the parameters that drew them, so they are weighed right under the
/// selector as it has become.
template <std::copyable Selector>
class snapshot {
 public:
  using scalar_type = typename Selector::scalar_type;

  /// Copies the selector as it is once the work queued on `b` is done.
  template <backend B>
  snapshot(B& b, const Selector& selector) : frozen_((b.synchronise(), selector)) {}

  /// Takes the selector's parameters as they are now. Waits for the work queued on `b`, which may still use the old
  /// ones and change the new.
  template <backend B>
  void refresh(B& b, const Selector& selector) {
    b.synchronise();
    frozen_ = selector;
  }

  [[nodiscard]] const Selector& selector() const { return frozen_; }

  template <backend B, class Queries>
  [[nodiscard]] draws<B, scalar_type> draw(B& b, const Queries& queries, const draw_options& options,
                                           const random_source& random) const {
    return frozen_.draw(b, queries, options, random);
  }

  /// log q of rankings drawn by anybody, [draws × 1], nats.
  template <backend B, class Queries>
  [[nodiscard]] matrix_t<B, scalar_type> log_prob(B& b, const Queries& queries, const draws<B, scalar_type>& z) const {
    return frozen_.log_prob(b, queries, z);
  }

 private:
  Selector frozen_;
};

}  // namespace dro

#endif
