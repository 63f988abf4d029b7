// SPDX-License-Identifier: Apache-2.0
// Weights, calibrations, objectives, diagnostics and their sums, with several threads a query.
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/em/totals.hpp>
#include <dro/estimate/calibration.hpp>
#include <dro/estimate/diagnostics.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/gradient/gradient_noise.hpp>
#include <dro/gradient/importance_weighted_bound.hpp>
#include <dro/gradient/regularised.hpp>
#include <dro/gradient/variance_minimising.hpp>
#include <dro/random/random_state.hpp>

#include "support/check.hpp"
#include "support/matrices.hpp"
#include "teams.hpp"

namespace {

using dro::index_t;

constexpr index_t queries = 7;
constexpr index_t samples = 24;
constexpr index_t documents = 5;
constexpr double never = -test::infinity<double>;

/// Scored draws on a backend: query 1 has impossible samples, query 2 nothing else, query 3 a NaN, query 4 +inf; all
/// likelihoods of query 5 are equal; the proposal of query 6 hardly ever makes what the selector likes.
template <class B>
struct world {
  dro::matrix_t<B, double> log_selector, log_likelihood, multiplicity, reference;
  dro::matrix_t<B, double> known, norms, scores;
  dro::draws<B, double> z;

  explicit world(B& b)
      : log_selector(write(b, test::random_matrix<double>(queries * samples, 1, -4, -1, 51))),
        log_likelihood(write(b, likelihoods())),
        multiplicity(write(b, counts())),
        reference(write(b, test::random_matrix<double>(queries * samples, 1, -4, -1, 53))),
        known(write(b, test::random_matrix<double>(queries, 1, -5, -2, 54))),
        norms(write(b, test::random_matrix<double>(queries * samples, 1, 0, 2, 55))),
        scores(write(b, test::random_matrix<double>(queries, documents, -1, 1, 56))),
        z(b, write(b, rankings()), write(b, proposals()), dro::grouping::uniform(queries, samples)) {}

  [[nodiscard]] auto on_policy(B& b) const { return dro::on_policy(b, log_likelihood, z); }
  [[nodiscard]] auto off_policy(B& b) const { return dro::off_policy(b, log_selector, log_likelihood, z); }
  [[nodiscard]] auto joined(B& b) const {
    return off_policy(b).with({}, {std::as_const(b).view(multiplicity), z.groups(), "multiplicity"});
  }
  [[nodiscard]] auto in_blocks(B& b) const { return off_policy(b).with({.block = 4}, {}); }
  [[nodiscard]] auto truncated(B& b) const { return off_policy(b).with({.block = 1, .covers = false}, {}); }

  static dro::host_matrix<double> likelihoods() {
    auto l = test::random_matrix<double>(queries * samples, 1, -6, -1, 57);
    for (index_t i = 0; i < samples; ++i) {
      if (i % 3 == 1) l(samples + i, 0) = never;
      l(2 * samples + i, 0) = never;
      l(5 * samples + i, 0) = -2;
    }
    l(3 * samples + 7, 0) = test::nan<double>;
    l(4 * samples + 9, 0) = test::infinity<double>;
    return l;
  }
  static dro::host_matrix<double> proposals() {
    auto p = test::random_matrix<double>(queries * samples, 1, -4, -1, 52);
    p(6 * samples + 5, 0) = -800;  // ρ = p/q is beyond the numbers, its logarithm is not
    return p;
  }
  static dro::host_matrix<double> counts() {
    dro::host_matrix<double> n(queries * samples, 1);
    for (index_t i = 0; i < queries * samples; ++i) n(i, 0) = static_cast<double>((i * i + 1) % 4);
    return n;
  }
  static dro::host_matrix<dro::document_t> rankings() {
    std::vector<test::ranking> list;
    for (index_t i = 0; i < queries * samples; ++i) {
      const auto first = static_cast<dro::document_t>(i * 7 % documents);
      list.push_back({first, static_cast<dro::document_t>((first + 1 + i % 3) % documents)});
    }
    return test::ranking_matrix(list);
  }
};

template <class B>
void add_weights(B& b, test::results& out, const std::string& name,
                 const dro::importance_weights_result<B, double>& w) {
  out.add(b, name + ": weights", w.normalised);
  out.add(b, name + ": evidence", w.log_evidence);
  out.add(b, name + ": elbo", w.elbo);
  out.add(b, name + ": ESS", w.effective_sample_size);
  out.add(b, name + ": largest", w.largest_weight);
  out.add(b, name + ": entropy", w.entropy);
  out.add(b, name + ": status", w.status);
}

/// Calls f(name, scored draws) for draws of every kind.
template <class B, class F>
void for_each_kind(B& b, const world<B>& w, F&& f) {
  f("on-policy", w.on_policy(b));
  f("off-policy", w.off_policy(b));
  f("joined", w.joined(b));
  f("in blocks", w.in_blocks(b));
  f("truncated", w.truncated(b));
}

template <class... Objectives>
void check_objectives(const Objectives&... targets) {
  test::check_teams([&](auto& b, test::results& out) {
    const world w(b);
    for_each_kind(b, w, [&](const std::string& kind, const auto& scores) {
      const auto weights = dro::importance_weights(b, scores);
      const auto add = [&](const auto& make) {
        const auto target = make(b, w);
        const auto c = dro::coefficients(b, target, scores, weights);
        const std::string name = kind + ", " + dro::objective_name<std::remove_cvref_t<decltype(target)>>();
        out.add(b, name + ": selector", c.selector);
        out.add(b, name + ": generator", c.generator);
        out.add(b, name + ": log scale", c.log_scale);
        out.add(b, name + ": status", c.status);
      };
      (add(targets), ...);
    });
  });
}

/// An objective that needs nothing of the world.
template <class Objective>
auto plain() {
  return [](auto&, const auto&) { return Objective{}; };
}

}  // namespace

TEST_CASE("importance weights and their diagnostics") {
  test::check_teams([](auto& b, test::results& out) {
    const world w(b);
    for_each_kind(b, w, [&](const std::string& kind, const auto& scores) {
      const auto weights = dro::importance_weights(b, scores);
      add_weights(b, out, kind, weights);
      const auto of_weights = dro::diagnose_weights(b, scores, weights);
      out.add(b, kind + ": samples", of_weights.samples);
      out.add(b, kind + ": standard error", of_weights.standard_error);
      out.add(b, kind + ": χ²", of_weights.chi_square);
      out.add(b, kind + ": perplexity", of_weights.perplexity);
      const auto of_draws = dro::diagnose_draws(b, w.z, scores, {.threshold = -3});
      out.add(b, kind + ": distinct", of_draws.distinct);
      out.add(b, kind + ": hits", of_draws.hit_share);
      out.add(b, kind + ": kept", of_draws.kept_mass);
    });
  });
}

TEST_CASE("where bare likelihoods lie changes no bit of weights and coefficients") {
  test::check_teams([](auto& b, test::results& out) {
    for (const index_t size : {1, 3, 4, 24}) {
      CAPTURE(size);
      const auto values = test::random_matrix<double>(queries, size, -6, -1, 58);
      dro::host_matrix<double> turned(size, queries);
      for (index_t q = 0; q < queries; ++q) {
        for (index_t i = 0; i < size; ++i) turned(i, q) = values(q, i);
      }
      const auto rows = write(b, values);
      const auto columns = write(b, turned);
      const auto weigh = [&](const auto& log_likelihood) {
        const auto scores = dro::on_policy(b, log_likelihood);
        auto weights = dro::importance_weights(b, scores);
        auto c = dro::coefficients(b, dro::evidence<dro::baseline::centred>{}, scores, weights);
        return std::pair(std::move(weights), std::move(c));
      };
      const auto [in_rows, c_of_rows] = weigh(rows);
      const auto [in_columns, c_of_columns] = weigh(dro::transposed(std::as_const(b).view(columns)));
      add_weights(b, out, "rows", in_rows);
      out.add(b, "rows: selector", c_of_rows.selector);
      out.add(b, "rows: generator", c_of_rows.generator);
      const auto check_equal = [&](const auto& expected, const auto& found) {
        const auto e = read(b, expected);
        const auto f = read(b, found);
        for (index_t i = 0; i < e.rows() * e.cols(); ++i) CHECK(e.data()[i] == f.data()[i]);
      };
      check_equal(in_rows.normalised, in_columns.normalised);
      check_equal(in_rows.log_evidence, in_columns.log_evidence);
      check_equal(in_rows.effective_sample_size, in_columns.effective_sample_size);
      check_equal(c_of_rows.selector, c_of_columns.selector);
      check_equal(c_of_rows.generator, c_of_columns.generator);
    }
  });
}

TEST_CASE("calibrations") {
  test::check_teams([](auto& b, test::results& out) {
    const world w(b);
    const auto lengths = write(b, test::column(std::vector<std::int32_t>{3, 1, 0, 2, 4, 5, 2}));
    const auto add = [&](const std::string& name, const auto& c) {
      add_weights(b, out, name, c.used);
      out.add(b, name + ": log weights", c.log_weights);
      out.add(b, name + ": reports", c.reports);
      if (std::as_const(b).view(c.tail).rows > 0) out.add(b, name + ": tail", c.tail);
    };
    namespace step = dro::calibration;
    for_each_kind(b, w, [&](const std::string& kind, const auto& scores) {
      add(kind + ", limited", dro::calibrate(b, scores, step::length_normalise{std::as_const(b).view(lengths)},
                                             step::truncate{}, step::clip{-1, 1}));
      add(kind + ", smoothed", dro::calibrate(b, scores, step::pareto_smooth{}));
      add(kind + ", tempered", dro::calibrate(b, scores, step::temper{0.8}));
      add(kind + ", all", dro::calibrate(b, scores, step::truncate{}, step::pareto_smooth{}, step::temper{0.6}));
      add(kind + ", pooled", dro::smooth_ratios(b, scores));
    });
  });
}

TEST_CASE("objectives of the evidence") {
  check_objectives(plain<dro::evidence<dro::baseline::none>>(), plain<dro::evidence<dro::baseline::centred>>(),
                   plain<dro::evidence<dro::baseline::ratio>>());
}

TEST_CASE("the importance-weighted bound") {
  check_objectives(plain<dro::importance_weighted_bound<dro::baseline::none>>(),
                   plain<dro::importance_weighted_bound<dro::baseline::arithmetic>>(),
                   plain<dro::importance_weighted_bound<dro::baseline::geometric>>(),
                   plain<dro::importance_weighted_bound_of_proposal<>>());
}

TEST_CASE("expected rewards with every baseline") {
  check_objectives(
      plain<dro::expected_log_likelihood<dro::baseline::none>>(), plain<dro::expected_log_likelihood<>>(),
      plain<dro::expected_log_likelihood<dro::baseline::group_mean>>(),
      plain<dro::expected_log_likelihood<dro::baseline::group_normalised>>(),
      plain<dro::expected_likelihood<dro::baseline::none>>(), plain<dro::expected_likelihood<>>(),
      plain<dro::expected_likelihood<dro::baseline::group_normalised>>(),
      [](auto& b, const auto& w) {
        using baseline = dro::baseline::value<double>;
        return dro::expected_likelihood<baseline>{.subtract = {std::as_const(b).view(w.known)},
                                                  .scale = dro::likelihood_scale::per_query};
      },
      [](auto& b, const auto& w) {
        using baseline = dro::baseline::variance_minimising<double>;
        return dro::expected_log_likelihood<baseline>{
            .subtract = {{std::as_const(b).view(w.norms), w.z.groups(), "norms"}}};
      });
}

TEST_CASE("an entropy bonus and a penalty around an objective") {
  check_objectives([](auto& b, const auto& w) {
    return dro::regularised<dro::evidence<>>{
        .entropy = 0.1,
        .divergence = 0.2,
        .log_reference = {std::as_const(b).view(w.reference), w.z.groups(), "reference"}};
  });
}

TEST_CASE("sums over the queries, and the noise of the gradient") {
  test::check_teams([](auto& b, test::results& out) {
    using B = std::remove_cvref_t<decltype(b)>;
    const world w(b);
    const dro::random_state random(b, 9);
    dro::step_totals<B> totals(b);
    for_each_kind(b, w, [&](const std::string& kind, const auto& scores) {
      const auto weights = dro::importance_weights(b, scores);
      totals.add(b, w.z, scores, weights, {.threshold = -3});
      totals.add(b, weights, weights.status, scores.groups());
      const auto calibrated = dro::calibrate(b, scores, dro::calibration::pareto_smooth{});
      totals.add_calibrated(b, scores, calibrated.used);
      totals.add_tails(b, calibrated.template report<dro::calibration::pareto_smooth>(b), 0.5);
      totals.add_coefficients(b, weights.status);
      dro::accumulate_gradient_noise(b, dro::evidence<>{}, w.scores, w.z, scores, random.source(b),
                                     totals.gradient_noise_sums(b));
      auto halves = dro::split_halves(b, w.z, scores, random.source(b));
      out.add(b, kind + ": first half", halves.first);
      out.add(b, kind + ": second half", halves.second);
      out.add(b, kind + ": gradient noise", dro::matrix_view<const double>(totals.gradient_noise_sums(b)));
    });
    const auto s = totals.take(b);
    out.add(b, "totals",
            write(b, test::column(std::vector<double>{s.evidence, s.elbo, s.effective_sample_size, s.largest_weight,
                                                      s.entropy, s.weight_variance, s.samples, s.effective_share,
                                                      s.standard_error, s.evidence_error, s.distinct_share, s.hit_share,
                                                      s.kept_mass, s.calibrated_sample_size, s.calibrated_variance})));
    out.add(b, "counts",
            write(b, test::column(std::vector<std::int32_t>{
                         static_cast<std::int32_t>(s.used()), static_cast<std::int32_t>(s.all()),
                         static_cast<std::int32_t>(s.without_gradient), static_cast<std::int32_t>(s.hits_known),
                         static_cast<std::int32_t>(s.no_hit), static_cast<std::int32_t>(s.all_hit),
                         static_cast<std::int32_t>(s.tails_fitted), static_cast<std::int32_t>(s.tails_heavy)})));
  });
}
