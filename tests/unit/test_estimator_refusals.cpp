// SPDX-License-Identifier: Apache-2.0
// Extreme numbers and inputs that do not belong together: a status or a typed error, never anything else than numbers.
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/data/checkpoint_file.hpp>
#include <dro/dro.hpp>

#include "support/exact_world.hpp"
#include "support/matrices.hpp"

namespace {

using dro::index_t;
using dro::status;
using backend = dro::host_backend;
namespace bl = dro::baseline;
constexpr double inf = test::infinity<double>;
constexpr double no_number = test::nan<double>;

/// Status of the first query; its coefficients must be numbers, and 0 if it is not used.
template <class T>
status state_of(const dro::gradient_coefficients<backend, T>& c) {
  const auto s = static_cast<status>(c.status(0, 0));
  for (const auto* m : {&c.selector, &c.generator}) {
    for (const T x : test::elements(*m)) {
      CHECK(std::isfinite(x));
      if (!dro::is_used(s)) CHECK(x == 0);
    }
  }
  return s;
}

template <class Objective>
status on_policy_status(const std::vector<double>& likelihood, const Objective& target) {
  backend b(1);
  const auto l = test::matrix<double>(1, static_cast<index_t>(likelihood.size()), likelihood);
  const auto scores = dro::on_policy(b, l);
  return state_of(dro::coefficients(b, target, scores, dro::importance_weights(b, scores)));
}

}  // namespace

TEST_CASE("a ratio that overflows although the weight does not") {
  backend b(1);
  const dro::host_matrix<double> prior(1, 2, {0.0, -1.0});
  const dro::host_matrix<double> proposal(1, 2, {-799.0, -1.0});
  const dro::host_matrix<double> likelihood(1, 2, {-900.0, -2.0});
  const auto scores = dro::off_policy(b, prior, likelihood, proposal);
  const auto w = dro::importance_weights(b, scores);
  CHECK(static_cast<status>(w.status(0, 0)) == status::ok);
  const auto of = [&](auto target) { return state_of(dro::coefficients(b, target, scores, w)); };
  CHECK(of(dro::evidence<>{}) == status::ok);
  CHECK(of(dro::evidence<bl::ratio>{}) == status::unbounded);
  CHECK_FALSE(dro::is_used(of(dro::expected_log_likelihood<>{})));
  CHECK_FALSE(dro::is_used(of(dro::expected_likelihood<bl::none>{})));
}

TEST_CASE("likelihoods beyond the numbers") {
  CHECK_FALSE(dro::is_used(on_policy_status({800, -1}, dro::expected_likelihood<>{})));
  CHECK(on_policy_status({800, -1}, dro::expected_likelihood<>{.log_offset = -900}) == status::ok);
  CHECK_FALSE(dro::is_used(on_policy_status({-1, -2}, dro::expected_likelihood<>{.log_offset = no_number})));
  CHECK_FALSE(dro::is_used(on_policy_status({-1, -inf}, dro::importance_weighted_bound<>{.floor = no_number})));
}

TEST_CASE("a known value of −inf: impossible as a log-likelihood, nothing as a likelihood") {
  backend b(1);
  const dro::host_matrix<double> never(1, 1, {-inf});
  const dro::matrix_view<const double> view = b.view(never);
  CHECK(on_policy_status({-3, -1}, dro::expected_log_likelihood<bl::value<double>>{{view}}) == status::impossible);
  CHECK(on_policy_status({-3, -1}, dro::expected_likelihood<bl::value<double>>{{view}}) == status::ok);
}

TEST_CASE("a moving average survives one step that overflowed") {
  backend b(1);
  test::exact_world w(4, 2, 1, 3, 5);
  auto selector = w.selector(b);
  auto generator = w.generator(b);
  dro::random_state<backend> random(b, 1);
  dro::moving_average_baseline<dro::expected_log_likelihood, backend> average(b);
  auto e = dro::e_step(b, selector, generator, w.all(), {4, 2}, random);
  const auto coefficients = [&] { return average.coefficients(b, selector, generator, w.all(), e, 0); };
  static_cast<void>(coefficients());
  const double kept = average.state()(0, 0);
  e.selector_drew = false;
  e.log_selector = dro::host_matrix<double>(4, 1, {800.0, 0.0, 0.0, 0.0});
  static_cast<void>(coefficients());
  CHECK(average.state()(0, 0) == kept);
}

TEST_CASE("numbers of draws that are none") {
  backend b(1);
  const dro::host_matrix<double> l(1, 2, {-1.0, -2.0});
  const auto with = [&](double count) {
    const dro::host_matrix<double> counts(1, 2, {1.0, count});
    const auto scores = dro::on_policy(b, l).with({}, {b.view(counts), dro::grouping::uniform(1, 2), "multiplicity"});
    return static_cast<status>(dro::importance_weights(b, scores).status(0, 0));
  };
  CHECK(with(2) == status::ok);
  CHECK(with(0) == status::ok);
  CHECK(with(-2) == status::not_a_number);
  CHECK(with(inf) == status::not_a_number);
  CHECK(with(no_number) == status::not_a_number);
}

TEST_CASE("views of other draws are refused by name") {
  backend b(1);
  const dro::host_matrix<double> l(2, 3);
  const dro::host_matrix<double> small(1, 3);
  const auto scores = dro::on_policy(b, l, dro::grouping::uniform(2, 3));
  const dro::grouped_view<const double> other(b.view(small), dro::grouping::uniform(1, 3), "small");
  const auto w = dro::importance_weights(b, scores);
  CHECK_THROWS_WITH_AS(static_cast<void>(scores.with_log_ratio(other)),
                       "scored_draws: log_ratio is for 3 draws of 1 queries, expected 6 of 2", dro::shape_error);
  CHECK_THROWS_AS(static_cast<void>(scores.with({}, other)), dro::shape_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(scores.with({.block = 0}, {})), "scored_draws: blocks of 0",
                       dro::option_error);
  const auto run = [&](auto target) { static_cast<void>(dro::coefficients(b, target, scores, w)); };
  using minimising = dro::expected_log_likelihood<bl::variance_minimising<double>>;
  CHECK_THROWS_AS(run(minimising{}), dro::shape_error);
  CHECK_THROWS_AS(run(minimising{.subtract = {other}}), dro::shape_error);
  const dro::host_matrix<double> fitting(6, 1);
  const dro::grouped_view<const double> norms(b.view(fitting), dro::grouping::uniform(2, 3), "norms");
  CHECK_THROWS_AS(run(minimising{.subtract = {norms, no_number}}), dro::option_error);
  CHECK_THROWS_AS(run(minimising{.subtract = {norms, 5}}), dro::option_error);
}

TEST_CASE("regularised: options, another batch's reference, and none at all") {
  backend b(1);
  const dro::host_matrix<double> l(2, 3, {-1.0, -2.0, -3.0, -1.0, -2.0, -3.0});
  const dro::host_matrix<double> small(1, 3);
  const auto groups = dro::grouping::uniform(2, 3);
  const dro::grouped_view<const double> prior(b.view(l), groups, "prior");
  const dro::scored_draws<double> scores(prior, prior, {}, groups, 2, 3);
  const auto w = dro::importance_weights(b, scores);
  using target = dro::regularised<dro::evidence<>>;
  const auto run = [&](const target& t) { return dro::coefficients(b, t, scores, w); };
  CHECK_THROWS_AS(run(target{.entropy = no_number}), dro::option_error);
  CHECK_THROWS_AS(run(target{.divergence = 1}), dro::option_error);
  const dro::grouped_view<const double> other(b.view(small), dro::grouping::uniform(1, 3), "small");
  CHECK_THROWS_AS(run(target{.divergence = 1, .log_reference = other}), dro::shape_error);
  const dro::host_matrix<double> strange(2, 3, {no_number, -1.0, -1.0, -inf, -1.0, -1.0});
  const auto c = run(target{.divergence = 1, .log_reference = {b.view(strange), groups, "reference"}});
  CHECK(state_of(c) == status::not_a_number);
  CHECK(static_cast<status>(c.status(1, 0)) == status::impossible);
  // A draw that counts for nothing may have any reference.
  const dro::host_matrix<double> counts(2, 3, {0.0, 1.0, 1.0, 0.0, 1.0, 1.0});
  const auto counted = scores.with({}, {b.view(counts), groups, "counts"});
  const auto d = dro::coefficients(b, target{.divergence = 1, .log_reference = {b.view(strange), groups, "reference"}},
                                   counted, dro::importance_weights(b, counted));
  CHECK(state_of(d) == status::ok);
  CHECK(static_cast<status>(d.status(1, 0)) == status::ok);
  const dro::host_matrix<double> none(0, 3);
  const auto nobody = dro::on_policy(b, none);
  CHECK(dro::coefficients(b, target{.entropy = 1}, nobody, dro::importance_weights(b, nobody)).selector.rows() == 0);
}

TEST_CASE("draws without replacement are nobody's on-policy draws") {
  backend b(1);
  const dro::host_matrix<double> s(1, 4, {1.0, 0.0, -1.0, 0.5});
  const test::exact_world w(4, 2, 1, 3, 6);
  const auto selector = w.selector(b);
  dro::random_state<backend> random(b, 2);
  const auto z = dro::without_replacement(selector).draw(b, w.all(), {3, 2}, random.source(b));
  const dro::host_matrix<double> l(3, 1);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::on_policy(b, l, z)),
                       "on_policy: draws without replacement, whose log q is not log p(z|x)", dro::option_error);
}

TEST_CASE("an impossible document has no gradient, whatever the coefficient") {
  backend b(1);
  const dro::host_matrix<double> s(1, 3, {0.5, -inf, -0.5});
  const auto z = test::ranking_matrix({{0, 1}, {0, 2}});
  const dro::host_matrix<double> c(2, 1, {1.0, 0.0});
  dro::host_matrix<double> g(1, 3);
  dro::accumulate_plackett_luce_gradient(b, s, b.view(std::as_const(z)), dro::grouping::uniform(1, 2), c, b.view(g));
  for (const double x : test::elements(g)) CHECK(x == 0);
}

TEST_CASE_TEMPLATE("options beyond the number type", T, float, double) {
  backend b(1);
  const dro::host_matrix<T> s(1, 4, {T(1), T(0), T(-1), T(0.5)});
  dro::random_state<backend> random(b, 3);
  // top_p below all numbers keeps the most probable document: the ranking is greedy.
  const auto z = dro::draw_plackett_luce(b, s, random.source(b), {3, 2}, {.top_p = 1e-60});
  for (index_t i = 0; i < 3; ++i) CHECK(test::ranking_of(z.rankings(), i) == test::ranking{0, 3});
  CHECK_THROWS_AS(static_cast<void>(dro::draw_plackett_luce(b, s, random.source(b), {3, 2}, {.temperature = 1e-310})),
                  dro::option_error);
  const dro::host_matrix<T> features(4, 1);
  const dro::host_matrix<T> parameters(1, 2);
  CHECK_THROWS_AS(dro::softmax_control_variate<T>(b.view(features), b.view(parameters), inf), dro::option_error);
  CHECK_THROWS_AS(static_cast<void>(dro::calibrate(b, dro::on_policy(b, s), dro::calibration::clip{inf, inf})),
                  dro::option_error);
}

TEST_CASE("a step of which no query could be used is not fine") {
  dro::step_summary s;
  s.queries[static_cast<std::size_t>(status::degenerate)] = 8;
  CHECK(dro::advise(s).what == dro::finding::no_gradient);
}

TEST_CASE("writing does not replace what is no file") {
  const std::vector<char> bytes = {'x'};
  CHECK_THROWS_WITH_AS(dro::data::write_file_atomically("/dev/null", std::span<const char>(bytes)),
                       "/dev/null: cannot be written: it is a device or a pipe, not a file", dro::file_error);
  CHECK(std::filesystem::is_character_file("/dev/null"));
}

TEST_CASE("a batch of fewer than no queries") {
  backend b(1);
  const dro::host_matrix<double> l(1, 2, {-1.0, -2.0});
  const auto scores = dro::on_policy(b, l);
  const auto w = dro::importance_weights(b, scores);
  CHECK_THROWS_WITH_AS(static_cast<void>(dro::coefficients(b, dro::evidence<>{}, scores, w, -5)),
                       "coefficients: query_count is -5, expected 0 or more", dro::option_error);
  const dro::host_matrix<double> documents(1, 3, {0.5, 0.0, -0.5});
  const auto rankings = test::ranking_matrix({{0, 2}});
  dro::host_matrix<double> gradient(1, 3);
  CHECK_THROWS_WITH_AS(
      dro::pl_rank_3_gradient(b, documents, std::as_const(b).view(rankings), dro::grouping::uniform(1, 1), documents,
                              dro::host_matrix<double>(1, 2, {1.0, 0.5}), b.view(gradient), -1),
      "pl_rank_3_gradient: query_count is -1, expected 0 or more", dro::option_error);
}
