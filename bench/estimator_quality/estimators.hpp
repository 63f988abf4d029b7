// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BENCH_ESTIMATOR_QUALITY_ESTIMATORS_HPP
#define DRO_BENCH_ESTIMATOR_QUALITY_ESTIMATORS_HPP

/// \file
/// Every estimator of the selector's gradient, run by the library on many replicates of a batch at once: row r of the
/// replicates is query r mod 64, so that a row's gradient by its scores is one independent estimate.

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include <dro/backend/host.hpp>
#include <dro/dro.hpp>
#include <dro/em/baselines.hpp>
#include <dro/em/calibrated.hpp>
#include <dro/em/set_scores.hpp>
#include <dro/gradient/per_position.hpp>
#include <dro/gradient/relax.hpp>
#include <dro/gradient/unordered_set.hpp>
#include <dro/model/proposals/fixed_order.hpp>
#include <dro/model/proposals/mixture.hpp>
#include <dro/model/proposals/sampled_selector.hpp>
#include <dro/model/proposals/several.hpp>
#include <dro/model/proposals/uniform.hpp>
#include <dro/ranking/without_replacement.hpp>

#include "fixture.hpp"

namespace quality {

using backend = dro::host_backend;
using matrix = dro::host_matrix<double>;

/// Rows of a replicated batch.
struct rows {
  index_t count;
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(count); }
};

/// A Plackett–Luce selector with the scores of a fixture; its "parameters" are the scores of each row.
class row_selector {
 public:
  using scalar_type = double;
  explicit row_selector(const fixture& f) : fixture_(&f) {}

  [[nodiscard]] matrix scores(backend& b, const rows& batch) const {
    matrix s(batch.count, documents);
    b.run(batch.count, [&, view = b.view(s)](auto&, index_t r) {
      for (index_t j = 0; j < documents; ++j) view(r, j) = fixture_->scores(r % query_count, j);
    });
    return s;
  }
  [[nodiscard]] dro::draws<backend, double> draw(backend& b, const rows& batch, const dro::draw_options& options,
                                                 const dro::random_source& random) const {
    return dro::draw_plackett_luce(b, scores(b, batch), random, options);
  }
  [[nodiscard]] matrix log_prob(backend& b, const rows& batch, const dro::draws<backend, double>& z) const {
    matrix p(z.groups().total(), 1);
    dro::plackett_luce_log_prob(b, scores(b, batch), std::as_const(b).view(z.rankings()), z.groups(), b.view(p));
    return p;
  }
  void accumulate_gradient(backend& b, const rows& batch, const dro::draws<backend, double>& z, const matrix& c) {
    begin(batch);
    dro::accumulate_plackett_luce_gradient(b, scores(b, batch), std::as_const(b).view(z.rankings()), z.groups(), c,
                                           b.view(gradient));
  }
  void accumulate_score_gradient(backend&, const rows& batch, const matrix& d_scores) {
    begin(batch);
    for (index_t r = 0; r < batch.count; ++r) {
      for (index_t j = 0; j < documents; ++j) gradient(r, j) += d_scores(r, j);
    }
  }

  matrix gradient;  ///< [rows × documents], of the last step

 private:
  void begin(const rows& batch) { gradient = matrix(batch.count, documents); }
  const fixture* fixture_;
};

/// A generator that looks its log-likelihoods up.
class row_generator {
 public:
  explicit row_generator(const fixture& f) : fixture_(&f) {}
  [[nodiscard]] matrix log_likelihood(backend& b, const rows&, const dro::draws<backend, double>& z) const {
    matrix out(z.groups().total(), 1);
    const auto groups = z.groups();
    count_calls(z);
    b.run(groups.queries(), [&, rankings = std::as_const(b).view(z.rankings()), view = b.view(out)](auto&, index_t r) {
      for (index_t i = groups.begin(r); i < groups.begin(r) + groups.size(r); ++i) {
        const index_t code = dro::ranking_code(rankings, i, documents);
        view(i, 0) = code < 0 ? -INFINITY : fixture_->log_likelihood(r % query_count, code);
      }
    });
    return out;
  }
  void accumulate_gradient(backend&, const rows&, const dro::draws<backend, double>&, const matrix&) {}

  /// Of each document of each row, the mean log-likelihood of the lists that hold it, [rows · documents × 1].
  [[nodiscard]] matrix document_means(const rows& batch) const {
    const auto rankings = dro::enumerate_rankings(documents, select);
    matrix means(batch.count * documents, 1);
    for (index_t r = 0; r < batch.count; ++r) {
      for (index_t z = 0; z < rankings.rows(); ++z) {
        for (index_t t = 0; t < select; ++t) {
          means(r * documents + rankings(z, t), 0) +=
              fixture_->log_likelihood(r % query_count, z) / static_cast<double>(2 * (documents - 1));
        }
      }
    }
    return means;
  }

  /// Different lists scored so far: of a query's rankings, or sets where the generator ignores order.
  [[nodiscard]] index_t calls() const { return calls_; }

 private:
  /// 1 if row r has not been seen at this pair yet.
  static index_t count_once(std::vector<index_t>& seen, dro::document_t first, dro::document_t second, index_t r) {
    index_t& last = seen[static_cast<std::size_t>(first) * documents + static_cast<std::size_t>(second)];
    const index_t fresh = last != r ? 1 : 0;
    last = r;
    return fresh;
  }
  void count_calls(const dro::draws<backend, double>& z) const {
    const dro::grouping& groups = z.groups();
    std::vector<index_t> lists(static_cast<std::size_t>(documents * documents), -1);
    const auto rankings = z.rankings().data();
    for (index_t r = 0; r < groups.queries(); ++r) {
      for (index_t i = groups.begin(r); i < groups.begin(r) + groups.size(r); ++i) {
        dro::document_t first = rankings[2 * i];
        dro::document_t second = rankings[2 * i + 1];
        if (first < 0 || second < 0) continue;
        if (fixture_->order_free && first > second) std::swap(first, second);
        calls_ += count_once(lists, first, second, r);
      }
    }
  }

  const fixture* fixture_;
  mutable index_t calls_ = 0;
};

/// What an estimator is an estimate of.
enum class target { evidence, bound, likelihood, log_likelihood, none };

/// One estimator: `gradient` fills selector.gradient for m generator calls a query.
struct estimator {
  std::string name;
  target of;
  bool unbiased;            ///< for what it is an estimate of
  bool order_free = false;  ///< whether it asks for a generator that ignores order
  bool compared = true;     ///< whether it knows no more than the others
  index_t least = 1;        ///< generator calls
  index_t most = 16;
  std::function<void(backend&, row_selector&, row_generator&, const rows&, index_t m, dro::random_state<backend>&)>
      gradient;
};

namespace detail {

struct no_step {
  void step(backend&, row_selector&) {}
};

/// Draws from the selector, or from what `proposal(selector)` gives, and an M-step that leaves the gradient where it
/// is. The row count is not divided by: each row is an estimate of its own.
template <class Target, class MakeProposal>
auto em_step(const Target& goal, MakeProposal make_proposal, index_t extra_calls = 0) {
  return [=](backend& b, row_selector& selector, row_generator& generator, const rows& batch, index_t m,
             dro::random_state<backend>& random) {
    const dro::draw_options options{m - extra_calls, select};
    auto e = [&] {
      if constexpr (std::is_same_v<MakeProposal, std::nullptr_t>) {
        return dro::e_step(b, selector, generator, batch, options, random);
      } else {
        return dro::e_step(b, selector, generator, make_proposal(b, selector, m), batch, options, random);
      }
    }();
    dro::m_step(b, selector, generator, batch, e, goal, no_step{}, dro::frozen{}, {.query_count = 1});
  };
}

template <class Target>
auto on_policy(const Target& goal, index_t extra_calls = 0) {
  return em_step(goal, nullptr, extra_calls);
}

/// The unordered-set estimator, on draws without replacement.
template <class Target>
auto unordered(const Target& goal) {
  return [=](backend& b, row_selector& selector, row_generator& generator, const rows& batch, index_t m,
             dro::random_state<backend>& random) {
    const auto drawn = dro::without_replacement(selector).draw_set(b, batch, {m, select}, random.source(b));
    random.advance(b);
    const auto log_likelihood = generator.log_likelihood(b, batch, drawn.z);
    const auto c = dro::unordered_set_coefficients(b, goal, drawn, log_likelihood, 1);
    selector.accumulate_gradient(b, batch, drawn.z, c.selector);
  };
}

/// A variance-minimising baseline for each position of the ranking.
template <class Reward>
auto per_position(const Reward& reward, bool is_likelihood) {
  return [=](backend& b, row_selector& selector, row_generator& generator, const rows& batch, index_t m,
             dro::random_state<backend>& random) {
    const auto e = dro::e_step(b, selector, generator, batch, {m, select}, random);
    const auto scores = selector.scores(b, batch);
    const auto rankings = std::as_const(b).view(e.z.rankings());
    matrix norms(rankings.rows, select);
    dro::plackett_luce_position_norms(b, scores, rankings, e.z.groups(), b.view(norms));
    auto c =
        dro::position_coefficients(b, reward, e.scores(b), e.weights, b.view(std::as_const(norms)), {.query_count = 1});
    if (is_likelihood) {
      for (index_t r = 0; r < c.selector.rows(); ++r) {
        for (index_t t = 0; t < select; ++t) c.selector(r, t) *= std::exp(c.log_scale(r / m, 0));
      }
    }
    matrix d_scores(batch.count, documents);
    dro::accumulate_position_gradient(b, scores, rankings, e.z.groups(), c.selector, b.view(d_scores));
    selector.accumulate_score_gradient(b, batch, d_scores);
  };
}

/// What the control variate of RELAX is told of a document.
enum class feature {
  score,  ///< what the selector thinks of it
  oracle  ///< the mean log-likelihood of the lists that hold it, which nobody would know
};

/// RELAX for the expected log-likelihood. Its two parameters are learned beforehand, on draws of their own.
inline auto relax(feature known) {
  return [=](backend& b, row_selector& selector, row_generator& generator, const rows& batch, index_t m,
             dro::random_state<backend>& random) {
    const auto once = [&](const row_generator& source, const rows& part, matrix& parameters, matrix& d_scores,
                          matrix& d_parameters, dro::random_state<backend>& noise) {
      const auto scores = selector.scores(b, part);
      const auto z = selector.draw(b, part, {m, select}, noise.source(b));
      auto rewards = source.log_likelihood(b, part, z);
      matrix features(part.count * documents, 1);
      if (known == feature::oracle) {
        features = source.document_means(part);
      } else {
        // Scores do not know how likely the answer of a query is: its level is taken off by the other draws.
        std::copy_n(scores.data(), part.count * documents, features.data());
        for (index_t r = 0; r < part.count; ++r) {
          double* reward = rewards.data() + r * m;
          const double sum = std::accumulate(reward, reward + m, 0.0);
          for (index_t i = 0; i < m; ++i) reward[i] -= (sum - reward[i]) / static_cast<double>(m - 1);
        }
      }
      const dro::softmax_control_variate<double> control(b.view(std::as_const(features)),
                                                         b.view(std::as_const(parameters)));
      static_cast<void>(dro::relax_gradient(b, scores, std::as_const(b).view(z.rankings()), z.groups(), rewards,
                                            control, noise.source(b), b.view(d_scores), b.view(d_parameters), 1));
      noise.advance(b);
    };
    matrix parameters(1, 2);
    matrix squares(1, 2);                       // Adagrad's: the scale of the two differs, and is not known beforehand
    const row_generator rehearsal = generator;  // whose calls are not counted
    dro::random_state<backend> practice(b, 4711);
    const rows part{query_count};
    for (int step = 0; step < 100; ++step) {
      matrix d_scores(part.count, documents);
      matrix uphill(1, 2);
      once(rehearsal, part, parameters, d_scores, uphill, practice);
      for (index_t k = 0; k < 2; ++k) {
        squares(0, k) += uphill(0, k) * uphill(0, k);
        parameters(0, k) += 0.3 * uphill(0, k) / std::sqrt(squares(0, k) + 1e-30);
      }
    }
    matrix d_scores(batch.count, documents);
    matrix unused(1, 2);
    once(generator, batch, parameters, d_scores, unused, random);
    selector.accumulate_score_gradient(b, batch, d_scores);
  };
}

/// The moving average of the mean reward, learned on twenty steps of draws that are not counted.
template <template <class> class Reward>
auto moving_average() {
  return [](backend& b, row_selector& selector, row_generator& generator, const rows& batch, index_t m,
            dro::random_state<backend>& random) {
    dro::moving_average_baseline<Reward, backend> target(b);
    const row_generator rehearsal = generator;
    dro::random_state<backend> practice(b, 4712);
    const rows part{query_count};
    for (int step = 0; step < 20; ++step) {
      const auto e = dro::e_step(b, selector, rehearsal, part, {m, select}, practice);
      static_cast<void>(target.coefficients(b, selector, rehearsal, part, e, 1));
    }
    auto e = dro::e_step(b, selector, generator, batch, {m, select}, random);
    dro::m_step(b, selector, generator, batch, e, target, no_step{}, dro::frozen{}, {.query_count = 1});
  };
}

}  // namespace detail

/// All of them, in the order of the table.
inline std::vector<estimator> estimators() {
  namespace bl = dro::baseline;
  using detail::on_policy;
  std::vector<estimator> all;
  const auto add = [&](const char* name, target of, bool unbiased, index_t least, auto gradient) {
    all.push_back({name, of, unbiased, false, true, least, 16, gradient});
  };
  add("evidence, no baseline", target::evidence, false, 1, on_policy(dro::evidence<bl::none>{}));
  add("evidence, centred", target::evidence, false, 1, on_policy(dro::evidence<>{}));
  add("evidence with set scores", target::evidence, false, 1, on_policy(dro::set_scores<dro::evidence<>>{}));
  all.back().order_free = true;
  add("importance-weighted bound, no baseline", target::bound, false, 2,
      on_policy(dro::importance_weighted_bound<bl::none>{}));
  add("importance-weighted bound, arithmetic", target::bound, false, 2, on_policy(dro::importance_weighted_bound<>{}));
  add("importance-weighted bound, geometric", target::bound, false, 2,
      on_policy(dro::importance_weighted_bound<bl::geometric>{}));
  add("expected likelihood, no baseline", target::likelihood, true, 1, on_policy(dro::expected_likelihood<bl::none>{}));
  add("expected likelihood, leave-one-out", target::likelihood, true, 2, on_policy(dro::expected_likelihood<>{}));
  add("expected likelihood, group mean", target::likelihood, false, 2,
      on_policy(dro::expected_likelihood<bl::group_mean>{}));
  add("expected likelihood, variance-minimising", target::likelihood, true, 2,
      on_policy(dro::variance_minimising_baseline<dro::expected_likelihood>{}));
  add("expected likelihood, greedy", target::likelihood, true, 2,
      on_policy(dro::greedy_baseline<dro::expected_likelihood>{}, 1));
  add("expected likelihood, moving average", target::likelihood, true, 1,
      detail::moving_average<dro::expected_likelihood>());
  add("expected likelihood, set scores", target::likelihood, true, 2,
      on_policy(dro::set_scores<dro::expected_likelihood<>>{}));
  all.back().order_free = true;
  add("expected likelihood, group-normalised (GRPO)", target::none, false, 2,
      on_policy(dro::expected_likelihood<bl::group_normalised>{}));
  add("expected log-likelihood, no baseline", target::log_likelihood, true, 1,
      on_policy(dro::expected_log_likelihood<bl::none>{}));
  add("expected log-likelihood, leave-one-out (RLOO)", target::log_likelihood, true, 2,
      on_policy(dro::expected_log_likelihood<>{}));
  add("expected log-likelihood, variance-minimising", target::log_likelihood, true, 2,
      on_policy(dro::variance_minimising_baseline<dro::expected_log_likelihood>{}));
  add("expected log-likelihood, moving average", target::log_likelihood, true, 1,
      detail::moving_average<dro::expected_log_likelihood>());
  add("expected log-likelihood, greedy (ReMax)", target::log_likelihood, true, 2,
      on_policy(dro::greedy_baseline<dro::expected_log_likelihood>{}, 1));
  add("expected log-likelihood, group-normalised (GRPO)", target::none, false, 2,
      on_policy(dro::expected_log_likelihood<bl::group_normalised>{}));
  add("expected log-likelihood, RELAX", target::log_likelihood, true, 2, detail::relax(detail::feature::score));
  add("expected log-likelihood, RELAX with an oracle's feature", target::log_likelihood, true, 2,
      detail::relax(detail::feature::oracle));
  all.back().compared = false;
  add("expected likelihood, per position", target::likelihood, true, 2,
      detail::per_position(dro::likelihood_reward{}, true));
  add("expected log-likelihood, per position", target::log_likelihood, true, 2,
      detail::per_position(dro::log_likelihood_reward{}, false));

  const auto sampled = [](const dro::sampling& how) {
    return [=](backend&, const row_selector& selector, index_t) { return dro::sampled_selector(selector, how); };
  };
  add("evidence, centred, antithetic noise", target::evidence, false, 2,
      detail::em_step(dro::evidence<>{}, sampled({.noise = {dro::noise_kind::antithetic}})));
  add("evidence, centred, Latin hypercube", target::evidence, false, 2,
      detail::em_step(dro::evidence<>{}, sampled({.noise = {dro::noise_kind::latin_hypercube, 2}})));
  add("expected log-likelihood, leave-pair-out, antithetic", target::log_likelihood, true, 4,
      detail::em_step(dro::expected_log_likelihood<>{}, sampled({.noise = {dro::noise_kind::antithetic}})));
  add("evidence, centred, tempered proposal (2)", target::evidence, false, 1,
      detail::em_step(dro::evidence<>{}, sampled({.temperature = 2})));
  add("evidence, no baseline, truncated proposal (top-p 0.8)", target::evidence, false, 1,
      detail::em_step(dro::evidence<bl::none>{}, sampled({.top_p = 0.8})));
  const auto uniform = [](backend&, const row_selector&, index_t) { return dro::uniform<>(documents); };
  add("evidence, centred, uniform proposal", target::evidence, false, 1, detail::em_step(dro::evidence<>{}, uniform));
  const auto mixture = [](backend&, const row_selector& selector, index_t) {
    return dro::mixture(0.5, selector, dro::uniform<>(documents));
  };
  add("evidence, no baseline, mixture with uniform", target::evidence, false, 1,
      detail::em_step(dro::evidence<bl::none>{}, mixture));
  add("evidence, centred, mixture with uniform", target::evidence, false, 1,
      detail::em_step(dro::evidence<>{}, mixture));
  add("evidence, less the ratio, mixture with uniform", target::evidence, false, 1,
      detail::em_step(dro::evidence<bl::ratio>{}, mixture));
  add("expected likelihood, leave-one-out, mixture with uniform", target::likelihood, true, 2,
      detail::em_step(dro::expected_likelihood<>{}, mixture));
  const auto order = [](backend&, const row_selector& selector, index_t) {
    return dro::mixture(0.8, selector, dro::fixed_order<>(documents));
  };
  add("evidence, centred, mixture with a fixed order", target::evidence, false, 1,
      detail::em_step(dro::evidence<>{}, order));
  all.back().compared = false;  // in the heavy-tailed fixture the order begins with the answer
  const auto both = [](backend&, const row_selector& selector, index_t m) {
    return dro::several(dro::heuristic::balance, {m / 2, m - m / 2}, selector, dro::uniform<>(documents));
  };
  add("evidence, centred, selector and uniform, balance heuristic", target::evidence, false, 2,
      detail::em_step(dro::evidence<>{}, both));
  const auto power = [](backend&, const row_selector& selector, index_t m) {
    return dro::several(dro::heuristic::power, {m / 2, m - m / 2}, selector, dro::uniform<>(documents));
  };
  add("evidence, centred, selector and uniform, power heuristic", target::evidence, false, 2,
      detail::em_step(dro::evidence<>{}, power));
  add("evidence, centred, truncated", target::evidence, false, 2,
      on_policy(dro::calibrated(dro::evidence<>{}, dro::calibration::truncate{})));
  add("evidence, centred, tempered to ESS m/2", target::evidence, false, 2,
      on_policy(dro::calibrated(dro::evidence<>{}, dro::calibration::temper{0.5})));
  add("evidence, centred, Pareto-smoothed", target::evidence, false, 2,
      on_policy(dro::calibrated(dro::evidence<>{}, dro::calibration::pareto_smooth{})));
  const auto distinct = [](backend&, const row_selector& selector, index_t) {
    return dro::without_replacement(selector);
  };
  add("evidence, centred, without replacement", target::evidence, false, 2,
      detail::em_step(dro::evidence<>{}, distinct));
  add("unordered set", target::evidence, false, 2, detail::unordered(dro::unordered_set::evidence{}));
  all.back().most = 12;
  add("expected likelihood, unordered set", target::likelihood, true, 2,
      detail::unordered(dro::unordered_set::expected_likelihood{}));
  all.back().most = 12;
  add("expected log-likelihood, unordered set", target::log_likelihood, true, 2,
      detail::unordered(dro::unordered_set::expected_log_likelihood{}));
  all.back().most = 12;
  return all;
}

}  // namespace quality

#endif
