// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BENCH_ESTIMATOR_STEP_HPP
#define DRO_BENCH_ESTIMATOR_STEP_HPP

/// \file
/// The work that the benchmarks of the estimator time, on any backend: peers/estimator_step.py does the same in
/// PyTorch.

#include <cstdint>
#include <optional>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/host.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/random/key.hpp>
#include <dro/random/noise.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/draws.hpp>
#include <dro/ranking/plackett_luce.hpp>

namespace dro_bench {

/// B queries of n documents, m rankings of K of them for each.
struct step_shape {
  dro::index_t queries = 4096;
  dro::index_t documents = 20;
  dro::index_t samples = 16;
  dro::index_t select = 5;
};

/// One step given the scores of a selector and the log-likelihoods of a generator, in three phases. What a phase finds
/// lives until the next time that phase runs.
template <dro::backend B, class T>
class estimator_step {
 public:
  estimator_step(B& b, const step_shape& shape)
      : b_(&b),
        shape_(shape),
        scores_(dro::write(b, some_scores(shape))),
        log_likelihood_(dro::write(b, some_log_likelihoods(shape))),
        random_(b, 1) {}

  /// Rankings and their log p(z).
  void draw() {
    z_.reset();
    z_.emplace(dro::draw_plackett_luce(*b_, scores_, random_.source(*b_), {shape_.samples, shape_.select}));
    random_.advance(*b_);
  }

  /// Self-normalised weights, effective sample size and the rest of `importance_weights`; leave-one-out coefficients.
  void weigh() {
    weighed_ = {};
    const dro::scored_draws<T> scored = dro::on_policy(*b_, log_likelihood_, z_->groups());
    weighed_ = dro::weigh(*b_, dro::expected_log_likelihood<>{}, scored);
  }

  /// Σ c_i ∂ log p(z_i) / ∂ scores.
  void differentiate() {
    gradient_ = {};
    gradient_ = dro::plackett_luce_gradient(*b_, scores_, view(z_->rankings()), z_->groups(), coefficients().selector);
  }

  void whole() {
    draw();
    weigh();
    differentiate();
  }

  [[nodiscard]] const dro::matrix_t<B, T>& scores() const { return scores_; }
  [[nodiscard]] const dro::matrix_t<B, T>& log_likelihood() const { return log_likelihood_; }
  [[nodiscard]] const dro::draws<B, T>& z() const { return *z_; }
  [[nodiscard]] const dro::importance_weights_result<B, T>& weights() const { return weighed_.weights; }
  [[nodiscard]] const dro::gradient_coefficients<B, T>& coefficients() const { return weighed_.coefficients; }
  [[nodiscard]] const dro::matrix_t<B, T>& gradient() const { return gradient_; }

  /// Bytes of what a phase reads and what it writes, each counted once.
  struct traffic {
    dro::index_t draw, weigh, differentiate, whole;
  };
  [[nodiscard]] traffic bytes() const {
    const dro::index_t scalar = sizeof(T);
    const dro::index_t per_document = shape_.queries * shape_.documents * scalar;
    const dro::index_t per_draw = shape_.queries * shape_.samples * scalar;
    const dro::index_t rankings =
        shape_.queries * shape_.samples * shape_.select * static_cast<dro::index_t>(sizeof(dro::document_t));
    // log_evidence, elbo, effective_sample_size, largest_weight, entropy and log_scale; the two of status.
    const dro::index_t per_query = shape_.queries * (6 * scalar + 2 * static_cast<dro::index_t>(sizeof(std::int32_t)));
    return {per_document + rankings + per_draw,
            // log-likelihoods in; weights and both coefficients out
            4 * per_draw + per_query, 2 * per_document + rankings + per_draw,
            2 * per_document + rankings + 5 * per_draw + per_query};
  }

 private:
  template <class M>
  [[nodiscard]] auto view(const M& m) const {
    return std::as_const(*b_).view(m);
  }

  // About standard normal: the sum of twelve uniform numbers, less its mean.
  static dro::host_matrix<T> some_scores(const step_shape& shape) {
    return table(shape.queries, shape.documents, [](std::uint32_t query, std::uint32_t document) {
      T sum = -6;
      for (std::uint32_t k = 0; k < 12; ++k) sum += uniform(0, query, 12 * document + k);
      return sum;
    });
  }

  // Uniform in (−5, 0).
  static dro::host_matrix<T> some_log_likelihoods(const step_shape& shape) {
    return table(shape.queries, shape.samples,
                 [](std::uint32_t query, std::uint32_t sample) { return T(-5) * uniform(1, query, sample); });
  }

  static T uniform(std::uint32_t stream, std::uint32_t query, std::uint32_t position) {
    return dro::noise::uniform<T>(dro::random_word({7, stream}, query, 0, position));
  }

  template <class F>
  static dro::host_matrix<T> table(dro::index_t rows, dro::index_t cols, F f) {
    dro::host_matrix<T> x(rows, cols);
    for (dro::index_t i = 0; i < rows; ++i) {
      for (dro::index_t j = 0; j < cols; ++j) x(i, j) = f(static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(j));
    }
    return x;
  }

  B* b_;
  step_shape shape_;
  dro::matrix_t<B, T> scores_;
  dro::matrix_t<B, T> log_likelihood_;
  dro::random_state<B> random_;
  std::optional<dro::draws<B, T>> z_;
  dro::weighed_draws<B, T> weighed_;
  dro::matrix_t<B, T> gradient_;
};

}  // namespace dro_bench

#endif
