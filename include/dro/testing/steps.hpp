// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTING_STEPS_HPP
#define DRO_TESTING_STEPS_HPP

/// \file
/// Whole steps of training with every estimator of the library: draw, score, weigh, calibrate, coefficients, gradient,
/// update, next random step. They keep everything in the backend's memory, so they must read nothing and wait for
/// nothing, and a step that was captured in a graph can be replayed.

#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/host.hpp>
#include <dro/em/adaptive.hpp>
#include <dro/em/allocation.hpp>
#include <dro/em/baselines.hpp>
#include <dro/em/calibrated.hpp>
#include <dro/em/e_step.hpp>
#include <dro/em/m_step.hpp>
#include <dro/em/set_scores.hpp>
#include <dro/em/totals.hpp>
#include <dro/em/unordered_sets.hpp>
#include <dro/gradient/document_independent.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/gradient/gradient_noise.hpp>
#include <dro/gradient/importance_weighted_bound.hpp>
#include <dro/gradient/per_position.hpp>
#include <dro/gradient/pl_rank.hpp>
#include <dro/gradient/regularised.hpp>
#include <dro/gradient/relax.hpp>
#include <dro/model/proposals/fixed_order.hpp>
#include <dro/model/proposals/mixture.hpp>
#include <dro/model/proposals/sampled_selector.hpp>
#include <dro/model/proposals/several.hpp>
#include <dro/model/proposals/uniform.hpp>
#include <dro/models/table.hpp>
#include <dro/optimize/optimizer.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/deduplicate.hpp>
#include <dro/ranking/enumerate.hpp>
#include <dro/ranking/without_replacement.hpp>
#include <dro/testing/inputs.hpp>
#include <dro/testing/rankings.hpp>
#include <dro/testing/transcript.hpp>

namespace dro::testing {

/// A selector and a generator that are tables, and all that training them keeps from step to step. The whole state is
/// in the backend's memory.
template <backend B, class T>
class training {
 public:
  static constexpr problem size{3, 8, 6, 3};
  static constexpr index_t answers = 4;
  static constexpr models::table_rows queries{0, size.queries};
  static constexpr draw_options options{size.samples, size.select};
  static constexpr double learning_rate = 0.0625;

  /// Parameters of a control variate, moved by an optimiser as a model is.
  struct control_parameters {
    B* backend;
    matrix_t<B, T> value, gradient;
    template <class F>
    void for_each_parameter(F&& f) {
      f(backend->view(value), backend->view(gradient));
    }
  };

  explicit training(B& b)
      : selector(b, numbers<T>(size.queries, size.documents, -2, 2, 401)),
        generator(b, size.documents, size.select,
                  numbers<T>(size.queries * ranking_count(size.documents, size.select), answers, -2, 2, 402),
                  host_matrix<std::int32_t>(size.queries, 1, {1, 3, 0})),
        selector_optimizer(b, {.learning_rate = learning_rate}),
        generator_optimizer(b, {.learning_rate = learning_rate}),
        control_optimizer(b, {.learning_rate = learning_rate}),
        random(b, 17),
        totals(b),
        mean_log_likelihood(b, 0.5),
        mean_likelihood(b, 0.5),
        allocation(b, size.queries, {.samples = 6, .least = 2, .most = 8}),
        control{&b, write(b, numbers<T>(1, 3, -1, 1, 403)), make_filled<T>(b, 1, 3, T(0))},
        features(write(b, numbers<T>(size.queries * size.documents, 2, -1, 1, 404))),
        relevance(write(b, numbers<T>(size.queries, size.documents, 0, 2, 405))),
        positions(write(b, numbers<T>(1, size.select, 0, 1, 406))),
        document_likelihood(write(b, numbers<T>(size.queries, size.documents, -4, 0, 407))),
        gain(write(b, numbers<T>(size.queries * size.samples, size.documents, -1, 1, 408))) {}

  /// Notes parameters, the random step and the totals. Reads, and empties the totals.
  void note(B& b, transcript& t, const bound& of_parameters) {
    t.note(b, "random step", random.step());
    t.note(b, "scores", selector.scores(), of_parameters);
    generator.for_each_parameter([&](matrix_view<T> value, matrix_view<T> gradient) {
      t.note(b, "logits", value, of_parameters);
      t.note(b, "gradient of the logits", gradient, of_parameters);
    });
    t.note(b, "parameters of the control variate", control.value, of_parameters);
    const step_summary s = totals.take(b);
    for (int k = 0; k < status_count; ++k) {
      t.note({"queries", to_string(static_cast<status>(k))},
             static_cast<double>(s.queries[static_cast<std::size_t>(k)]));
    }
    t.note("queries without a gradient", static_cast<double>(s.without_gradient));
    host_backend host(1);
    const host_matrix<T> means(
        1, 3, {static_cast<T>(s.evidence), static_cast<T>(s.effective_sample_size), static_cast<T>(s.distinct_share)});
    t.note(host, "evidence, effective sample size and distinct rankings", means,
           bound::absolute(of_parameters.roundings, 16 * of_parameters.scale));
  }

  models::table_selector<B, T> selector;
  models::table_generator<B, T> generator;
  sgd<B, T> selector_optimizer, generator_optimizer, control_optimizer;
  random_state<B> random;
  step_totals<B> totals;
  moving_average_baseline<expected_log_likelihood, B, T> mean_log_likelihood;
  moving_average_baseline<expected_likelihood, B, T> mean_likelihood;
  sample_allocation<B> allocation;
  control_parameters control;
  matrix_t<B, T> features, relevance, positions, document_likelihood, gain;
};

namespace detail {

/// What follows an E-step: totals, gradient, update.
template <backend B, class T, class Target>
void learn(B& b, training<B, T>& w, e_step_result<B, T>& e, const Target& target, const m_step_options& options = {}) {
  w.totals.add(b, e.z, e.scores(b), e.weights, hit_rule<T>{.threshold = -1});
  const auto c =
      m_step(b, w.selector, w.generator, w.queries, e, target, w.selector_optimizer, w.generator_optimizer, options);
  w.totals.add_coefficients(b, c.status);
}

/// The selector draws; `target`, or what it makes of the training, is what is maximised.
template <class Target>
struct on_policy_step {
  Target target;
  index_t steps = 1;

  template <backend B, class T>
  void operator()(B& b, training<B, T>& w) const {
    auto e = e_step(b, w.selector, w.generator, w.queries, w.options, w.random);
    if constexpr (requires { target(w); }) {
      learn(b, w, e, target(w), {.steps = steps});
    } else {
      learn(b, w, e, target, {.steps = steps});
    }
  }
};

/// `proposal`, made for T and a selector, draws `samples` a query.
template <class Proposal, class Target>
struct proposal_step {
  Proposal proposal;
  Target target;
  index_t samples = 8;

  template <backend B, class T>
  void operator()(B& b, training<B, T>& w) const {
    const auto source = proposal.template operator()<T>(w.selector);
    auto e = e_step(b, w.selector, w.generator, source, w.queries, {samples, w.options.select}, w.random);
    learn(b, w, e, target);
  }
};

/// An estimator of the gradient by scores that stands beside the M-step: `add` adds it to d_scores.
template <class Add>
struct scores_step {
  Add add;

  template <backend B, class T>
  void operator()(B& b, training<B, T>& w) const {
    const auto z = w.selector.draw(b, w.queries, w.options, w.random.source(b));
    const auto scores = w.selector.scores(b, w.queries);
    auto d_scores = make_filled<T>(b, w.size.queries, w.size.documents, T(0));
    add(b, w, z, scores, d_scores);
    w.random.advance(b);
    w.selector.accumulate_score_gradient(b, w.queries, d_scores);
    w.selector_optimizer.step(b, w.selector);
  }
};

template <class Target>
on_policy_step(Target) -> on_policy_step<Target>;
template <class Proposal, class Target>
proposal_step(Proposal, Target) -> proposal_step<Proposal, Target>;
template <class Proposal, class Target>
proposal_step(Proposal, Target, index_t) -> proposal_step<Proposal, Target>;
template <class Add>
scores_step(Add) -> scores_step<Add>;

inline constexpr auto with_entropy = []<class B, class T>(const training<B, T>&) {
  return regularised<evidence<>, T>{.entropy = 0.25};
};
inline constexpr auto of_mean_log_likelihood = [](const auto& w) -> const auto& { return w.mean_log_likelihood; };
inline constexpr auto of_mean_likelihood = [](const auto& w) -> const auto& { return w.mean_likelihood; };

inline constexpr auto join_equal_draws = []<class B, class T>(B& b, training<B, T>& w) {
  auto e = e_step(b, w.selector, w.generator, w.queries, w.options, w.random);
  e.z = deduplicate(b, std::move(e.z));
  e.weights = importance_weights(b, e.scores(b));
  learn(b, w, e, evidence<>{});
};

inline constexpr auto share_draws_out = []<class B, class T>(B& b, training<B, T>& w) {
  constexpr std::array<index_t, 3> positions{0, 1, 2};
  auto e = adaptive_e_step(b, w.selector, w.generator, w.queries, std::span<const index_t>(positions), w.options.select,
                           w.allocation, w.random);
  learn(b, w, e, evidence<>{});
};

inline constexpr auto measure_noise = []<class B, class T>(B& b, training<B, T>& w) {
  const random_source random = w.random.source(b);
  auto e = e_step(b, w.selector, w.generator, w.queries, w.options, w.random);
  accumulate_gradient_noise(b, evidence<>{}, w.selector.scores(b, w.queries), e.z, e.scores(b), random,
                            w.totals.gradient_noise_sums(b));
  learn(b, w, e, evidence<>{});
};

/// The unordered-set estimator of `Objective`.
template <class Objective>
inline constexpr auto draw_sets = []<class B, class T>(B& b, training<B, T>& w) {
  auto e = e_step(b, w.selector, w.generator, without_replacement(w.selector), w.queries, w.options, w.random);
  learn(b, w, e, unordered_sets<Objective>{});
};

inline constexpr auto by_position = []<class B, class T>(B& b, training<B, T>& w) {
  const B& view = b;
  const auto e = e_step(b, w.selector, w.generator, w.queries, w.options, w.random);
  const auto scores = w.selector.scores(b, w.queries);
  const auto rankings = view.view(e.z.rankings());
  auto norms = b.template make<T>(rankings.rows, rankings.cols);
  plackett_luce_position_norms(b, scores, rankings, e.z.groups(), b.view(norms));
  const auto c =
      position_coefficients(b, log_likelihood_reward{}, e.scores(b), e.weights, view.view(std::as_const(norms)));
  auto d_scores = make_filled<T>(b, w.size.queries, w.size.documents, T(0));
  accumulate_position_gradient(b, scores, rankings, e.z.groups(), c.selector, b.view(d_scores));
  w.selector.accumulate_score_gradient(b, w.queries, d_scores);
  w.selector_optimizer.step(b, w.selector);
};

inline constexpr auto add_relax = []<class B, class T>(B& b, training<B, T>& w, const draws<B, T>& z,
                                                       const matrix_t<B, T>& scores, matrix_t<B, T>& d_scores) {
  const B& view = b;
  const auto log_likelihood = w.generator.log_likelihood(b, w.queries, z);
  const softmax_control_variate<T> control(view.view(w.features), view.view(w.control.value));
  static_cast<void>(relax_gradient(b, scores, view.view(z.rankings()), z.groups(), log_likelihood, control,
                                   w.random.source(b), b.view(d_scores), b.view(w.control.gradient)));
  w.control_optimizer.step(b, w.control);
};

inline constexpr auto add_pl_rank = []<class B, class T>(B& b, training<B, T>& w, const draws<B, T>& z,
                                                         const matrix_t<B, T>& scores, matrix_t<B, T>& d_scores) {
  pl_rank_3_gradient(b, scores, std::as_const(b).view(z.rankings()), z.groups(), w.relevance, w.positions,
                     b.view(d_scores));
};

inline constexpr auto add_rag_sequence = []<class B, class T>(B& b, training<B, T>& w, const draws<B, T>&,
                                                              const matrix_t<B, T>& scores, matrix_t<B, T>& d_scores) {
  const B& view = b;
  auto responsibility = b.template make<T>(w.size.queries, w.size.documents);
  rag_sequence_gradient<B, T>(b, view.view(scores), view.view(w.document_likelihood), b.view(d_scores),
                              b.view(responsibility));
};

inline constexpr auto add_replug = []<class B, class T>(B& b, training<B, T>& w, const draws<B, T>&,
                                                        const matrix_t<B, T>& scores, matrix_t<B, T>& d_scores) {
  const B& view = b;
  replug_gradient<B, T>(b, view.view(scores), view.view(w.document_likelihood), b.view(d_scores));
};

inline constexpr index_t documents = 6;
inline constexpr auto from_uniform = []<class T>(const auto&) { return uniform<T>(documents); };
inline constexpr auto from_all_possible = []<class T>(const auto& s) { return uniform_over(s); };
inline constexpr auto from_exhaustive = []<class T>(const auto&) { return exhaustive<T>(documents); };
inline constexpr auto from_mixture = []<class T>(const auto& s) { return mixture(0.5, s, uniform<T>(documents)); };
inline constexpr auto from_defensive = []<class T>(const auto& s) {
  return mixture(0.75, s, fixed_order<T>(documents));
};
inline constexpr auto from_several = []<class T>(const auto& s) {
  return several(heuristic::balance, {4, 2}, s, uniform<T>(documents));
};
inline constexpr auto from_several_powers = []<class T>(const auto& s) {
  return several(heuristic::power, {4, 4}, s, uniform<T>(documents));
};
inline constexpr auto from_sets = []<class T>(const auto& s) { return without_replacement(s); };

/// The selector with its sampling changed.
struct from_sampling {
  sampling how;
  template <class T>
  [[nodiscard]] auto operator()(const auto& s) const {
    return sampled_selector(s, how);
  }
};

}  // namespace detail

/// Calls f(name, step, stays) for every estimator of the library with draws of the selector: `step(b, w)` is a whole
/// step of a training<B, T> w, and `stays` says that it moves nothing between host and backend, so that it can be
/// captured in a graph once a first step has made the optimisers' memory.
template <class F>
void for_each_estimator(F&& f) {
  using detail::on_policy_step;
  using detail::scores_step;
  f("evidence, three gradient steps", on_policy_step<evidence<baseline::none>>{{}, 3}, true);
  f("evidence, centred", on_policy_step<evidence<>>{}, true);
  f("evidence, centred, weighed again", on_policy_step<evidence<>>{{}, 2}, true);
  f("evidence with set scores", on_policy_step<set_scores<evidence<>>>{}, true);
  f("evidence, truncated weights", on_policy_step{calibrated(evidence<>{}, calibration::truncate{})}, true);
  f("evidence, tempered weights", on_policy_step{calibrated(evidence<>{}, calibration::temper{0.5})}, true);
  f("evidence with an entropy term", on_policy_step{detail::with_entropy}, true);
  f("importance-weighted bound", on_policy_step<importance_weighted_bound<>>{}, true);
  f("expected log-likelihood", on_policy_step<expected_log_likelihood<>>{}, true);
  f("expected log-likelihood, group-normalised", on_policy_step<expected_log_likelihood<baseline::group_normalised>>{},
    true);
  f("expected log-likelihood, greedy", on_policy_step<greedy_baseline<expected_log_likelihood>>{}, true);
  f("expected log-likelihood, moving average", on_policy_step{detail::of_mean_log_likelihood}, true);
  f("expected log-likelihood, variance-minimising",
    on_policy_step<variance_minimising_baseline<expected_log_likelihood>>{}, true);
  f("expected log-likelihood, by position", detail::by_position, true);
  f("expected log-likelihood, RELAX", scores_step{detail::add_relax}, true);
  f("expected log-likelihood, unordered sets", detail::draw_sets<unordered_set::expected_log_likelihood>, true);
  f("expected likelihood", on_policy_step<expected_likelihood<>>{}, true);
  f("expected likelihood, moving average", on_policy_step{detail::of_mean_likelihood}, true);
  f("unordered sets", detail::draw_sets<unordered_set::evidence>, true);
  f("equal draws joined", detail::join_equal_draws, true);
  f("adaptive numbers of draws", detail::share_draws_out, false);
  f("gradient noise measured", detail::measure_noise, true);
  f("PL-Rank-3", scores_step{detail::add_pl_rank}, true);
  f("RAG-Sequence", scores_step{detail::add_rag_sequence}, true);
  f("REPLUG", scores_step{detail::add_replug}, true);
}

/// The same with draws from every proposal.
template <class F>
void for_each_proposal(F&& f) {
  using detail::from_sampling;
  using detail::proposal_step;
  constexpr evidence<> centred;
  f("uniform", proposal_step{detail::from_uniform, centred}, true);
  f("uniform over what can be chosen", proposal_step{detail::from_all_possible, centred}, true);
  f("all rankings", proposal_step{detail::from_exhaustive, evidence<baseline::none>{}}, false);
  f("mixture", proposal_step{detail::from_mixture, expected_likelihood<>{}}, true);
  f("mixture, less the ratio", proposal_step{detail::from_defensive, evidence<baseline::ratio>{}}, true);
  f("several, balance", proposal_step{detail::from_several, centred, 6}, true);
  f("several, power", proposal_step{detail::from_several_powers, centred}, true);
  f("antithetic", proposal_step{from_sampling{{.noise = {noise_kind::antithetic}}}, expected_log_likelihood<>{}}, true);
  f("Latin hypercube", proposal_step{from_sampling{{.noise = {noise_kind::latin_hypercube, 4}}}, centred}, true);
  f("temperature 1.5", proposal_step{from_sampling{{.temperature = 1.5}}, centred}, true);
  f("top 4", proposal_step{from_sampling{{.top_k = 4}}, evidence<baseline::none>{}}, true);
  f("without replacement", proposal_step{detail::from_sets, centred}, true);
}

namespace detail {

/// Calls of reads() and synchronise() so far, where the backend counts them.
template <class B>
[[nodiscard]] double waits_of(const B& b) {
  if constexpr (requires { b.reads() + b.synchronisations(); }) {
    return static_cast<double>(b.reads() + b.synchronisations());
  } else {
    return 0;
  }
}

/// A model of a row of parameters and a block of them.
template <backend B, class T>
struct two_matrices {
  B* backend;
  matrix_t<B, T> a, d_a, c, d_c;

  template <class F>
  void for_each_parameter(F&& f) {
    f(backend->view(a), backend->view(d_a));
    f(backend->view(c), backend->view(d_c));
  }
};

/// Three whole steps, in which nothing may be read, and what they made of the parameters.
template <class T, backend B, class Step>
void check_step(B& b, const std::string& name, const Step& step, findings& found) {
  run_case(
      b, name,
      [&]<backend C>(C& on, transcript& t) {
        training<C, T> w(on);
        const double before = waits_of(on);
        for (int i = 0; i < 3; ++i) step(on, w);
        t.note("reads and waits in three steps", waits_of(on) - before);
        // Scores stay below 3. Coefficients add up to at most 2.72 (8 + 16 · 2.72) = 140 over the queries and are off
        // by 3 m (3 m + 16) + 40, a gradient of unit coefficients by gradient_roundings / m and has elements up to K.
        // Up to nine updates at rate 1/16, each of which passes on the error of the one before at most doubled with
        // its rankings fixed: the rankings themselves stay, as seeds are such that no two keys lie that close.
        constexpr problem p = training<C, T>::size;
        const double m = p.samples, K = p.select;
        const double of_gradient = 140 * (gradient_roundings(p, 3) / m + K * (3 * m * (3 * m + 16) + 40));
        w.note(on, t, bound::absolute(9 * 2 * training<C, T>::learning_rate * of_gradient, 1));
      },
      found);
}

}  // namespace detail

/// Three whole steps with every estimator. Of a backend that counts `reads()` and `synchronisations()` neither may rise
/// during the steps.
template <class T, backend B>
void check_steps(B& b, findings& found) {
  for_each_estimator(
      [&](const std::string& name, const auto& step, bool) { detail::check_step<T>(b, "step: " + name, step, found); });
}

/// The same with every proposal, and each optimiser on given gradients.
template <class T, backend B>
void check_proposal_steps(B& b, findings& found) {
  for_each_proposal([&](const std::string& name, const auto& step, bool) {
    detail::check_step<T>(b, "step: draws from " + name, step, found);
  });

  run_case(
      b, "optimisers",
      [&]<backend C>(C& on, transcript& t) {
        const auto train = [&](const char* name, auto optimiser) {
          detail::two_matrices<C, T> m{&on, write(on, numbers<T>(1, 2500, -2, 2, 411)),
                                       make_filled<T>(on, 1, 2500, T(0)), write(on, numbers<T>(7, 3, -2, 2, 412)),
                                       make_filled<T>(on, 7, 3, T(0))};
          for (std::uint32_t step = 0; step < 3; ++step) {
            const auto d_a = numbers<T>(1, 2500, 1, 2, 420 + step);
            const auto d_c = numbers<T>(7, 3, -2, -1, 430 + step);
            on.write(d_a.data(), on.view(m.d_a));
            on.write(d_c.data(), on.view(m.d_c));
            optimiser.step(on, m);
          }
          // Gradients in [1, 2] in magnitude: no quotient of moments is above 2. A handful of operations a step, and
          // the norm of 2521 elements where the gradient is shrunk to it.
          t.note(on, {name, "row"}, m.a, bound::absolute(3 * (2521.0 + 40), 3));
          t.note(on, {name, "block"}, m.c, bound::absolute(3 * (2521.0 + 40), 3));
          t.note(on, {name, "gradient"}, m.d_a);
          t.note(on, {name, "norm"}, optimiser.gradient_norm(), bound::relative(2521));
        };
        train("sgd", sgd<C, T>(on, {.learning_rate = 0.125, .momentum = 0.5, .weight_decay = 0.25}));
        train("sgd, shrunk", sgd<C, T>(on, {.learning_rate = 0.125}, {}, 2));
        train("adagrad", adagrad<C, T>(on, {.learning_rate = 0.125}));
        train("adamw", adamw<C, T>(on, {.learning_rate = 0.125}));
        train("sgd, linear schedule", sgd<C, T, linear_schedule>(on, {.learning_rate = 0.125}, {2, 8}));
        train("sgd, cosine schedule", sgd<C, T, cosine_schedule>(on, {.learning_rate = 0.125}, {2, 8, 0.125}));
      },
      found);
}

}  // namespace dro::testing

#endif
