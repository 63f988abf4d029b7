// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTING_WEIGHTS_HPP
#define DRO_TESTING_WEIGHTS_HPP

/// \file
/// Importance weights, their diagnostics, every calibration and every objective, on any backend against the host.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/host.hpp>
#include <dro/em/totals.hpp>
#include <dro/estimate/calibration.hpp>
#include <dro/estimate/diagnostics.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/gradient/baseline.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/gradient/importance_weighted_bound.hpp>
#include <dro/gradient/regularised.hpp>
#include <dro/gradient/variance_minimising.hpp>
#include <dro/ranking/draws.hpp>
#include <dro/testing/inputs.hpp>
#include <dro/testing/transcript.hpp>

namespace dro::testing {

namespace detail {

/// Log-probabilities of draws in the backend's memory: log p(z|x) in [−4, 0), log q within 1 of it, and log-likelihoods
/// in [−8, 0). All are multiples of 2^-9, so that log ρ and log w are exact in float and so are differences of them; ρ
/// lies in [1/e, e].
template <backend B, class T>
struct scored_sample {
  index_t queries, samples;
  matrix_t<B, T> log_selector, log_likelihood, log_proposal;

  scored_sample(B& b, index_t queries_, index_t samples_, bool with_edges = false)
      : queries(queries_), samples(samples_) {
    auto selector = numbers<T>(queries, samples, -4, 0, 201);
    auto likelihood = numbers<T>(queries, samples, -8, 0, 202);
    auto proposal = numbers<T>(queries, samples, -1, 1, 203);
    for (index_t i = 0; i < queries * samples; ++i) proposal.data()[i] += selector.data()[i];
    if (with_edges) make_edges(likelihood, selector, proposal);
    log_selector = write(b, selector);
    log_likelihood = write(b, likelihood);
    log_proposal = write(b, proposal);
  }

  /// The first queries are what no weight can be made of, or hardly; the rest stay as they are.
  void make_edges(host_matrix<T>& likelihood, host_matrix<T>& selector, host_matrix<T>& proposal) const {
    for (index_t i = 0; i < samples; ++i) {
      likelihood(0, i) = -infinity<T>;
      if (i > 0) likelihood(4, i) = -infinity<T>;  // one draw is possible
      likelihood(5, i) = T(-3);
      likelihood(6, i) -= T(8192);  // far below what exp can show
    }
    likelihood(1, samples - 1) = not_a_number<T>;
    likelihood(2, 0) = infinity<T>;
    likelihood(3, 0) = -infinity<T>;
    selector(7, 0) = -infinity<T>;  // drawn by the proposal alone
    proposal(8, 0) = -infinity<T>;  // drawn, and impossible to draw
    selector(8, 0) = T(-1);
    selector(9, 0) = proposal(9, 0) = -infinity<T>;  // incomplete
  }

  [[nodiscard]] scored_draws<T> on(B& b) const { return on_policy(b, log_likelihood).with({}, {}); }
  [[nodiscard]] scored_draws<T> off(B& b) const { return off_policy(b, log_selector, log_likelihood, log_proposal); }
};

// Roundings of weights of m draws with exact log-weights within D of the largest, in units of u.

/// exp 2, the sum m + 2, the inverse 1, two products 2.
[[nodiscard]] inline double weight_roundings(double m) { return m + 7; }

/// Notes weights and what they say; log-weights are below `size` in magnitude and within `spread` of the largest.
template <class B, class T>
void note_weights(B& b, transcript& t, const std::string& what, const importance_weights_result<B, T>& w, double m,
                  double size, double spread, double given = 0) {
  const double r = weight_roundings(m) + given;  // `given`: relative error of the weights before they were normalised
  t.note(b, {what, "normalised"}, w.normalised, bound::relative(2 * r));
  // The log of a sum: its relative error, 2 log m for the log and for log m each, two sums of size `size`.
  t.note(b, {what, "log_evidence"}, w.log_evidence, bound::absolute(2 * r + 4 * std::log(m) + 2 * size, 1));
  // A mean of offsets below `spread`, and a sum of size `size`.
  t.note(b, {what, "elbo"}, w.elbo, bound::absolute((m + 4 + given) * spread + size, 1));
  // Squares, their sum and an inverse.
  t.note(b, {what, "effective_sample_size"}, w.effective_sample_size, bound::relative(4 * r + m + 4));
  t.note(b, {what, "largest_weight"}, w.largest_weight, bound::relative(2 * r));
  // log of the sum less a mean of offsets with weights of relative error 2 r.
  t.note(b, {what, "entropy"}, w.entropy, bound::absolute((2 * r + m + 4) * (1 + spread), 1));
  t.note(b, {what, "status"}, w.status);
}

template <class B, class T>
void note_weights_and_diagnostics(B& b, transcript& t, const std::string& what, const scored_draws<T>& scores, double m,
                                  double size, double spread) {
  const auto w = importance_weights(b, scores);
  note_weights(b, t, what, w, m, size, spread);
  const auto d = diagnose_weights(b, scores, w);
  t.note(b, {what, "samples"}, d.samples);
  // m Σ n (w̄/n − 1/m)²: each difference is off by (r + 2) u (w̄ + 1/m) and at most 1, its square by twice that, their
  // weighted sum over Σ (w̄ + 1/m) = 2 by 4 (r + 2), and the factor m makes it m times as large; a block's sum of draws
  // and the square root (of numbers ≥ 2^-10, or of exactly 0) do no worse than eight times that.
  const double r = weight_roundings(m);
  t.note(b, {what, "chi_square"}, d.chi_square, bound::absolute(m * (4 * (r + 2) + m), 1));
  t.note(b, {what, "standard_error"}, d.standard_error, bound::absolute(8 * 32 * (4 * (r + 2) + m), 1));
  t.note(b, {what, "perplexity"}, d.perplexity, bound::relative((2 * r + m + 4) * (1 + spread) + 2));
  step_totals<B> totals(b);
  totals.add(b, w, w.status, scores.groups());
  totals.add_calibrated(b, scores, w);
  const auto sums = read(b, totals.matrix());
  // Sums over the queries in double, of numbers of type T that are off as above; the largest is an ESS.
  host_backend host(1);
  host_matrix<T> rounded(1, sums.cols());
  std::transform(sums.data(), sums.data() + sums.cols(), rounded.data(), [](double v) { return static_cast<T>(v); });
  t.note(host, {what, "totals"}, rounded, bound::absolute(m * m * (4 * r + m + 4) * (1 + size), 1));
}

}  // namespace detail

/// Weights on- and off-policy: fine and hopeless queries, ragged groups, multiplicities, dependent blocks.
template <class T, backend B>
void check_weights(B& b, findings& found) {
  run_case(
      b, "weights",
      []<backend C>(C& on, transcript& t) {
        for (const index_t m : {index_t{1}, index_t{2}, index_t{16}, index_t{37}}) {
          const detail::scored_sample<C, T> x(on, 12, m);
          const auto size = static_cast<double>(m);
          const std::string of = " of " + std::to_string(m) + " draws";
          detail::note_weights_and_diagnostics(on, t, "on-policy" + of, x.on(on), size, 8, 8);
          detail::note_weights_and_diagnostics(on, t, "off-policy" + of, x.off(on), size, 9, 10);
        }
      },
      found);
  run_case(
      b, "weights of strange queries",
      []<backend C>(C& on, transcript& t) {
        const detail::scored_sample<C, T> x(on, 12, 16, true);
        detail::note_weights_and_diagnostics(on, t, "on-policy", x.on(on), 16, 8200, 8);
        detail::note_weights_and_diagnostics(on, t, "off-policy", x.off(on), 16, 8200, 10);
        detail::note_weights_and_diagnostics(on, t, "of a proposal that does not cover",
                                             x.off(on).with({.block = 1, .covers = false}, {}), 16, 8200, 10);
      },
      found);
  run_case(
      b, "weights of ragged groups, with multiplicities, of blocks, of nothing",
      []<backend C>(C& on, transcript& t) {
        const auto starts = write(on, host_matrix<std::int32_t>(6, 1, {0, 1, 1, 7, 24, 40}));
        const auto groups = grouping::ragged(std::as_const(on).view(starts), 40);
        const auto likelihood = write(on, numbers<T>(40, 1, -8, 0, 204));
        const auto ratio = write(on, numbers<T>(40, 1, -1, 1, 205));
        const auto ones = make_filled<T>(on, 40, 1, T(0));
        detail::note_weights_and_diagnostics(on, t, "ragged, on-policy", on_policy(on, likelihood, groups), 17, 8, 8);
        const auto off = off_policy(on, ratio, likelihood, ones, groups);
        detail::note_weights_and_diagnostics(on, t, "ragged, off-policy", off, 17, 9, 10);
        auto counts = numbers<T>(40, 1, 0, 4, 206);
        for (index_t i = 0; i < 40; ++i) counts.data()[i] = std::floor(counts.data()[i]);
        const auto multiplicity = write(on, counts);
        const grouped_view<const T> n{std::as_const(on).view(multiplicity), groups, "multiplicity"};
        detail::note_weights_and_diagnostics(on, t, "with multiplicities", off.with({}, n), 51, 9, 10);
        const detail::scored_sample<C, T> x(on, 5, 16);
        detail::note_weights_and_diagnostics(on, t, "of blocks of four", x.off(on).with({.block = 4}, {}), 16, 9, 10);
        const detail::scored_sample<C, T> none(on, 0, 4);
        detail::note_weights(on, t, "of no query", importance_weights(on, none.on(on)), 4, 8, 8);
      },
      found);
  run_case(
      b, "hits and different rankings",
      []<backend C>(C& on, transcript& t) {
        const detail::scored_sample<C, T> x(on, 4, 9);
        host_matrix<document_t> lists(36, 2);
        for (index_t r = 0; r < 36; ++r) {
          lists(r, 0) = static_cast<document_t>(r % 4);
          lists(r, 1) = static_cast<document_t>(4 + r / 3 % 3);
        }
        draws<C, T> z(on, write(on, lists), make_filled<T>(on, 36, 1, T(0)), grouping::uniform(4, 9));
        z.set_log_kept(on, write(on, numbers<T>(36, 1, -2, 0, 207)));
        const auto scores = off_policy(on, x.log_selector, x.log_likelihood, z);
        const auto floors = write(on, host_matrix<T>(4, 1, {T(-4), -infinity<T>, not_a_number<T>, T(0)}));
        host_matrix<std::int32_t> says(36, 1);
        for (index_t r = 0; r < 36; ++r) says(r, 0) = r % 5 == 0;
        const auto stated = write(on, says);
        const auto note = [&](const std::string& what, const hit_rule<T>& hits) {
          const auto d = diagnose_draws(on, z, scores, hits);
          t.note(on, {what, "distinct"}, d.distinct);
          t.note(on, {what, "hit_share"}, d.hit_share, bound::relative(2));
          t.note(on, {what, "kept_mass"}, d.kept_mass, bound::relative(9 + 4));  // exp 2, a sum of 9, a quotient
        };
        note("nobody knows", {});
        note("a threshold", {.threshold = -4});
        note("a floor", {.floor = std::as_const(on).view(floors)});
        note("stated", {.stated = std::as_const(on).view(stated)});
      },
      found);
}

/// Every calibration step alone, all of them together, on edges, and the pooled smoothing of ratios.
template <class T, backend B>
void check_calibrations(B& b, findings& found) {
  namespace by = calibration;
  const auto calibrated_by = [&](const char* name, index_t m, double roundings, const auto&... make) {
    for (const bool edges : {false, true}) {
      run_case(
          b, std::string(name) + (edges ? ", strange queries" : ""),
          [&]<backend C>(C& on, transcript& t) {
            const detail::scored_sample<C, T> x(on, 12, m, edges);
            const auto lengths = write(on, host_matrix<std::int32_t>(12, 1, {1, 2, 3, 4, 0, 5, 6, 2, 2, 2, 9, 1}));
            const auto view = std::as_const(on).view(lengths);
            const auto draws_size = static_cast<double>(m);
            const double size = edges ? 8200 : 9;
            for (const bool off : {false, true}) {
              const auto scores = off ? x.off(on) : x.on(on);
              const auto w = calibrate(on, scores, make(view)...);
              const std::string what = off ? "off-policy" : "on-policy";
              detail::note_weights(on, t, what + ", used", w.used, draws_size, size, 10, roundings);
              t.note(on, {what, "log_weights"}, w.log_weights, bound::absolute(roundings + 2 * size, 1));
              t.note(on, {what, "reports"}, w.reports, bound::absolute(roundings + 2, 1));
              if constexpr ((std::is_same_v<std::invoke_result_t<decltype(make), decltype(view)>, by::pareto_smooth> ||
                             ...)) {
                t.note(on, {what, "tail"}, w.tail);
              }
            }
          },
          found);
    }
  };
  const auto lengths = [](auto view) { return by::length_normalise{view}; };
  const auto truncate = [](auto) { return by::truncate{}; };
  const auto clip = [](auto) { return by::clip{-3, 2}; };
  const auto smooth = [](auto) { return by::pareto_smooth{}; };
  const auto temper = [](auto) { return by::temper{0.5}; };
  // β (ℓ − best) + log ρ: two products and a sum of numbers below 8.
  calibrated_by("length-normalised", 16, 3 * 8, lengths);
  // A limit log Σ − log m is off by m + 8 for the sum and 2 log m twice; an offset moves by that, a weight relatively.
  calibrated_by("truncated", 16, 16 + 8 + 4 * std::log(16.0) + 10, truncate);
  calibrated_by("clipped", 16, 16 + 8 + 4 * std::log(16.0) + 10, clip);
  // β is where (Σ w^β)² / Σ w^2β reaches half of m. That is off by 3 m + 20 relative roundings, and for log-weights
  // spread evenly over 8 nats its logarithm falls by a tenth or more a unit of β: β is off by ten times as much, an
  // offset β x by another factor |x| ≤ 10.
  calibrated_by("tempered", 16, 10 * 10 * (3 * 16 + 20.0), temper);
  // The tail's M ≤ 3 √m excesses have profile log-likelihoods below 8 M, sums of M logarithms; rounded by (M + 8) 8 M
  // they are exponents of the weights with which the 30 + √M candidates for θ are averaged, hence relative errors of
  // θ̂, of k̂ as a mean of log(1 − θ̂ x), and, with factors below 8, of the tail's order statistics.
  const double tail = 3 * std::sqrt(64.0);
  calibrated_by("Pareto-smoothed", 64, 8 * (tail + 8) * 8 * tail, smooth);
  calibrated_by("all five", 64, 100 * (3 * 64 + 20.0) + 100 * 8 * (tail + 8) * 8 * tail, lengths, truncate, clip,
                smooth, temper);
  run_case(
      b, "pooled ratios",
      [&]<backend C>(C& on, transcript& t) {
        const detail::scored_sample<C, T> x(on, 6, 8);
        const auto scores = x.off(on);
        const auto rho = smooth_ratios(on, scores);
        const double M = 3 * std::sqrt(48.0);
        const double roundings = 8 * (M + 8) * 8 * M;
        t.note(on, "log ρ", rho.log_weights, bound::absolute(roundings, 1));
        t.note(on, "k̂", rho.reports, bound::absolute(roundings, 1));
        t.note(on, "tail", rho.tail);
        const auto smoothed =
            scores.with_log_ratio({std::as_const(on).view(rho.log_weights), scores.groups(), "log_ratio"});
        detail::note_weights(on, t, "with smoothed ratios", importance_weights(on, smoothed), 8, 9, 10, roundings);
      },
      found);
}

namespace detail {

/// Bounds m |c| of an expected reward where |ℓ| ≤ 8 and ρ ≤ e: of a reward less a baseline that is a ρ-weighted mean of
/// the others.
inline constexpr double reward = 2.72 * (8 + 16 * 2.72);

/// Calls f(name, objective, scale) for every objective with every baseline it takes. `scale` bounds m |c|.
template <class T, class F>
void for_each_objective(matrix_view<const T> one_each, matrix_view<const T> one, grouped_view<const T> norms,
                        grouped_view<const T> log_reference, const F& f) {
  f("evidence", evidence<baseline::none>{}, 2.0);
  f("evidence, centred", evidence<baseline::centred>{}, 2.0);
  f("evidence, less the ratio", evidence<baseline::ratio>{}, 4.0);
  f("importance-weighted bound", importance_weighted_bound<baseline::none>{}, 16.0);
  f("importance-weighted bound, arithmetic", importance_weighted_bound<baseline::arithmetic>{}, 16.0);
  f("importance-weighted bound, geometric", importance_weighted_bound<baseline::geometric>{-2}, 16.0);
  f("of the proposal", importance_weighted_bound_of_proposal<baseline::arithmetic>{}, 16.0);
  f("of the proposal, geometric", importance_weighted_bound_of_proposal<baseline::geometric>{}, 16.0);
  f("expected log-likelihood", expected_log_likelihood<baseline::none>{}, reward);
  f("expected log-likelihood, leave-one-out", expected_log_likelihood<baseline::leave_one_out>{}, reward);
  f("expected log-likelihood, group mean", expected_log_likelihood<baseline::group_mean>{}, reward);
  f("expected log-likelihood, group-normalised", expected_log_likelihood<baseline::group_normalised>{}, 8 * reward);
  f("expected log-likelihood, known values", expected_log_likelihood<baseline::value<T>>{.subtract = {one_each}},
    reward);
  f("expected log-likelihood, one known value", expected_log_likelihood<baseline::value<T>>{.subtract = {one}}, reward);
  f("expected log-likelihood, variance-minimising",
    expected_log_likelihood<baseline::variance_minimising<T>>{.subtract = {norms, 0.5}}, reward);
  f("expected likelihood", expected_likelihood<baseline::none>{}, reward);
  f("expected likelihood, leave-one-out", expected_likelihood<baseline::leave_one_out>{}, reward);
  f("expected likelihood, leave-one-out, per query",
    expected_likelihood<baseline::leave_one_out>{.scale = likelihood_scale::per_query}, reward);
  f("expected likelihood, group mean", expected_likelihood<baseline::group_mean>{}, reward);
  f("expected likelihood, group-normalised", expected_likelihood<baseline::group_normalised>{}, 8 * reward);
  f("expected likelihood, known values", expected_likelihood<baseline::value<T>>{.subtract = {one_each}}, reward);
  f("expected likelihood, variance-minimising",
    expected_likelihood<baseline::variance_minimising<T>>{.subtract = {norms, 0.5}}, reward);
  f("evidence, regularised",
    regularised<evidence<>, T>{.entropy = 0.25, .divergence = 0.5, .log_reference = log_reference}, reward);
}

}  // namespace detail

/// Coefficients of every objective with every baseline: on-policy, off-policy, of a proposal that does not cover, with
/// multiplicities, of dependent blocks, and for strange queries.
template <class T, backend B>
void check_objectives(B& b, findings& found) {
  constexpr index_t queries = 12, m = 8;
  run_case(
      b, "coefficients",
      []<backend C>(C& on, transcript& t) {
        const C& view = on;
        const auto known = write(on, numbers<T>(queries, 1, -8, 0, 211));
        const auto one = write(on, numbers<T>(1, 1, -8, 0, 212));
        const auto lengths = write(on, numbers<T>(queries * m, 1, 1, 2, 213));
        const auto reference = write(on, numbers<T>(queries * m, 1, -4, 0, 214));
        auto counts = numbers<T>(queries * m, 1, 0, 3, 215);
        for (index_t i = 0; i < queries * m; ++i) counts.data()[i] = std::floor(counts.data()[i]);
        const auto multiplicity = write(on, counts);
        const auto groups = grouping::uniform(queries, m);
        const detail::scored_sample<C, T> plain(on, queries, m), strange(on, queries, m, true);
        const grouped_view<const T> often{view.view(multiplicity), groups, "multiplicity"};
        const auto note_coefficients = [&](const std::string& what, const gradient_coefficients<C, T>& c,
                                           double scale) {
          // A few sums of up to 3 m draws, exp and quotients. Where a sum over the others is one less a part of it, the
          // part is at most all but one m-th: relative errors grow by m.
          const double roundings = 3 * m * (3 * m + 16.0) + 40;
          const bound of_scale = bound::absolute(roundings, scale / (m * queries));
          t.note(on, {what, "selector"}, c.selector, of_scale);
          t.note(on, {what, "generator"}, c.generator, of_scale);
          t.note(on, {what, "log_scale"}, c.log_scale);
          t.note(on, {what, "status"}, c.status);
        };
        const auto note_all = [&](const std::string& how, const scored_draws<T>& scores) {
          const auto w = importance_weights(on, scores);
          detail::for_each_objective<T>(
              view.view(known), view.view(one), {view.view(lengths), groups, "norms"},
              {view.view(reference), groups, "reference"}, [&](const char* name, const auto& objective, double scale) {
                note_coefficients(how + ", " + name, coefficients(on, objective, scores, w), scale);
              });
          const auto note_weighed = [&](const auto& objective, double scale) {
            const auto in_one_go = weigh(on, objective, scores);
            const std::string what =
                how + ", weighed for " + objective_name<std::remove_cvref_t<decltype(objective)>>();
            t.note(on, {what, "normalised"}, in_one_go.weights.normalised,
                   bound::relative(2 * detail::weight_roundings(3 * m)));
            t.note(on, {what, "status of the weights"}, in_one_go.weights.status);
            note_coefficients(what, in_one_go.coefficients, scale);
          };
          note_weighed(evidence<>{}, 2);
          note_weighed(expected_log_likelihood<>{}, detail::reward);
        };
        const auto with_selector = [&](const detail::scored_sample<C, T>& x) {
          // log q = log p: drawn by the selector, which says so, and knows log p.
          return scored_draws<T>({view.view(x.log_selector), groups, "log_selector"},
                                 {view.view(x.log_likelihood), groups, "log_likelihood"}, {}, groups, queries, m);
        };
        note_all("on-policy", with_selector(plain));
        note_all("on-policy, strange queries", with_selector(strange));
        note_all("on-policy, with multiplicities", with_selector(plain).with({}, often));
        note_all("on-policy, pairs", with_selector(plain).with({.block = 2}, {}));
        note_all("off-policy", plain.off(on));
        note_all("off-policy, strange queries", strange.off(on));
        note_all("off-policy, with multiplicities", plain.off(on).with({}, often));
        note_all("of a proposal that does not cover", plain.off(on).with({.block = 1, .covers = false}, {}));
      },
      found);
}

}  // namespace dro::testing

#endif
