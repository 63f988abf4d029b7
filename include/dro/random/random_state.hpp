// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANDOM_RANDOM_STATE_HPP
#define DRO_RANDOM_RANDOM_STATE_HPP

/// \file
/// The random key of a training run, with its step in the backend's memory.

#include <cstdint>

#include <dro/backend/concept.hpp>
#include <dro/random/key.hpp>

namespace dro {

/// What a row program holds to make a random key: the seed, where the step stands when the program runs, and which
/// query of the batch the first one is, if others were drawn for apart.
struct random_source {
  std::uint64_t seed = 0;
  const std::uint32_t* step = nullptr;
  std::uint32_t first_query = 0;

  [[nodiscard]] DRO_HOST_DEVICE random_key key() const { return {seed, step == nullptr ? 0U : *step, first_query}; }
};

namespace detail {

struct advance_step_program {
  matrix_view<std::uint32_t> step;

  [[nodiscard]] index_t width() const { return 1; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t) const {
    if (team.rank() == 0) ++step(0, 0);
  }
};

}  // namespace detail

/// Seed and step. The step is a [1 × 1] matrix of the backend and is advanced by a queued program, so a step that is
/// captured once and replayed draws anew each time. Two draws made at the same step are the same draws.
template <backend B>
class random_state {
 public:
  random_state(B& b, std::uint64_t seed, std::uint32_t step = 0)
      : seed_(seed), step_(b.template make<std::uint32_t>(1, 1)) {
    b.write(&step, b.view(step_));
  }

  /// That of queries from number `first_query` of the batch on.
  [[nodiscard]] random_source source(B& b, index_t first_query = 0) const {
    const B& backend = b;
    return {seed_, backend.view(step_).data, static_cast<std::uint32_t>(first_query)};
  }
  [[nodiscard]] std::uint64_t seed() const { return seed_; }
  /// The step, [1 × 1], for a checkpoint.
  [[nodiscard]] const matrix_t<B, std::uint32_t>& step() const { return step_; }

  /// Moves on to the next step. Queues one program.
  void advance(B& b) { b.run(1, detail::advance_step_program{b.view(step_)}); }

 private:
  std::uint64_t seed_;
  matrix_t<B, std::uint32_t> step_;
};

}  // namespace dro

#endif
