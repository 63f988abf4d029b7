// SPDX-License-Identifier: Apache-2.0
// Three facts about the gradient of the selector, on a toy that can be enumerated.
//
// 1. With the exact posterior, the direction of the M-step is the gradient of the evidence (Fisher's identity):
//        Σ_z p(z|x,y) ∇ log p(z|x) = ∇ log p(y|x)
// 2. It is a policy gradient with the reward r(z) = p(y|x,d_z) / p(y|x), and a constant may be taken off the reward:
//        E_p(z|x)[ (r(z) − 1) ∇ log p(z|x) ] = ∇ log p(y|x)
// 3. With m sampled rankings the constant does matter: it lowers the variance. One sample teaches the selector nothing.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <dro/dro.hpp>
#include <dro/models/table.hpp>

namespace {

using backend = dro::host_backend;
using selector_model = dro::models::table_selector<backend>;
using reader_model = dro::models::table_generator<backend>;
using vector = std::vector<double>;

constexpr dro::index_t documents = 5;
constexpr dro::index_t chosen = 2;
const dro::index_t lists = dro::ranking_count(documents, chosen);

/// `copies` of one and the same question, so that one E-step makes as many independent repetitions of an estimate.
struct toy {
  toy(backend& b, dro::index_t copies)
      : rows{.first = 0, .count = copies},
        selector(b, scores(copies)),
        reader(b, documents, chosen, logits(copies), dro::host_matrix<std::int32_t>(copies, 1)) {}

  static dro::host_matrix<double> scores(dro::index_t copies) {
    dro::host_matrix<double> s(copies, documents);
    for (dro::index_t q = 0; q < copies; ++q) {
      for (dro::index_t j = 0; j < documents; ++j) s(q, j) = 0.8 * std::sin(2.0 * static_cast<double>(j));
    }
    return s;
  }
  static dro::host_matrix<double> logits(dro::index_t copies) {
    dro::host_matrix<double> l(copies * lists, 2);
    for (dro::index_t row = 0; row < l.rows(); ++row)
      l(row, 0) = 2.0 * std::cos(3.0 * static_cast<double>(row % lists));
    return l;
  }

  dro::models::table_rows rows;
  selector_model selector;
  reader_model reader;
};

/// Row q of the selector's gradient.
vector gradient_of(const toy& t, dro::index_t q) {
  const double* row = &t.selector.gradient()(q, 0);
  return vector(row, row + documents);
}

/// ∂ log p(y|x) / ∂ scores by central differences of the enumerated evidence; error about h² = 1e-10.
vector numeric_gradient(backend& b, toy& t, dro::random_state<backend>& random) {
  const auto evidence = [&] {
    const auto e = dro::e_step(b, t.selector, t.reader, dro::exhaustive(documents), t.rows, {.select = chosen}, random);
    return e.weights.log_evidence(0, 0);
  };
  constexpr double h = 1e-5;
  vector gradient;
  for (dro::index_t j = 0; j < documents; ++j) {
    double& score = t.selector.scores()(0, j);
    const double kept = score;
    score = kept + h;
    const double above = evidence();
    score = kept - h;
    const double below = evidence();
    score = kept;
    gradient.push_back((above - below) / (2 * h));
  }
  return gradient;
}

struct moments {
  double length;     ///< of the mean, over the length of the true gradient
  double cosine;     ///< of the mean and the true gradient
  double deviation;  ///< √(Σ_j variance of component j), over the length of the true gradient
};

/// What `target` estimates with m draws, over all copies of the question.
template <class Objective>
moments measure(backend& b, toy& t, const Objective& target, dro::index_t m, const vector& truth,
                dro::random_state<backend>& random) {
  // [estimate]
  const auto e = dro::e_step(b, t.selector, t.reader, t.rows, {.samples = m, .select = chosen}, random);
  const auto c = dro::coefficients(b, target, e.scores(b), e.weights, /*query_count=*/1);  // copies are not averaged
  t.selector.for_each_parameter([&](auto, auto gradient) { dro::fill(b, gradient, 0.0); });
  t.selector.accumulate_gradient(b, t.rows, e.z, c.selector);
  // [estimate]
  vector mean(documents), square(documents);
  for (dro::index_t q = 0; q < t.rows.count; ++q) {
    const vector g = gradient_of(t, q);
    for (std::size_t j = 0; j < g.size(); ++j) {
      mean[j] += g[j] / static_cast<double>(t.rows.count);
      square[j] += g[j] * g[j] / static_cast<double>(t.rows.count);
    }
  }
  double variance = 0, dot = 0, own = 0, true_square = 0;
  for (std::size_t j = 0; j < mean.size(); ++j) {
    variance += square[j] - mean[j] * mean[j];
    dot += mean[j] * truth[j];
    own += mean[j] * mean[j];
    true_square += truth[j] * truth[j];
  }
  return {std::sqrt(own / true_square), own > 0 ? dot / std::sqrt(own * true_square) : 0,
          std::sqrt(std::max(0.0, variance) / true_square)};
}

}  // namespace

int main() {
  backend b;
  dro::random_state random(b, /*seed=*/3);
  toy one(b, 1);
  const vector truth = numeric_gradient(b, one, random);

  // [fisher]
  auto e = dro::e_step(b, one.selector, one.reader, dro::exhaustive(documents), one.rows, {.select = chosen}, random);
  auto c = dro::coefficients(b, dro::evidence<dro::baseline::none>{}, e.scores(b), e.weights);
  one.selector.accumulate_gradient(b, one.rows, e.z, c.selector);
  // [fisher]
  const vector m_step = gradient_of(one, 0);

  // [policy]
  // E_p(z|x)[(r(z) − 1) ∇ log p(z|x)], enumerated: the coefficient of z is p(z|x) (r(z) − 1).
  for (dro::index_t z = 0; z < lists; ++z) {
    const double reward = std::exp(e.log_likelihood(z, 0) - e.weights.log_evidence(0, 0));
    c.selector(z, 0) = std::exp(e.log_selector(z, 0)) * (reward - 1);
  }
  one.selector.for_each_parameter([&](auto, auto gradient) { dro::fill(b, gradient, 0.0); });
  one.selector.accumulate_gradient(b, one.rows, e.z, c.selector);
  // [policy]
  const vector policy = gradient_of(one, 0);

  std::printf("document   d log p(y|x)/d score   M-step direction   policy gradient, reward - 1\n");
  double worst = 0;
  for (std::size_t j = 0; j < documents; ++j) {
    std::printf("%8zu   %20.9f   %16.9f   %27.9f\n", j, truth[j], m_step[j], policy[j]);
    worst = std::max({worst, std::abs(m_step[j] - truth[j]), std::abs(policy[j] - truth[j])});
  }
  std::printf("largest difference %.1e (differences are good to about 1e-10)\n\n", worst);

  constexpr dro::index_t copies = 4000;
  toy many(b, copies);
  std::printf(
      "The same from m draws: mean and standard deviation of %td estimates, in lengths of the true gradient.\n\n"
      "  m | coefficient                     | length of mean   cosine   deviation\n",
      copies);
  bool holds = worst < 1e-8;
  const auto row = [](dro::index_t m, const char* name, const moments& x) {
    std::printf("%3td | %-31s | %14.3f   %6.3f   %9.3f\n", m, name, x.length, x.cosine, x.deviation);
  };
  for (const dro::index_t m : {1, 2, 4, 8, 16}) {
    const auto plain = measure(b, many, dro::evidence<dro::baseline::none>{}, m, truth, random);
    const auto centred = measure(b, many, dro::evidence<dro::baseline::centred>{}, m, truth, random);
    row(m, "w_i", plain);
    row(m, "w_i - 1/m", centred);
    if (m == 1) {
      holds = holds && centred.length == 0 && centred.deviation == 0;
      continue;  // leave-one-out needs another sample
    }
    row(m, "(l_i - mean of the other l) / m",
        measure(b, many, dro::expected_log_likelihood<dro::baseline::leave_one_out>{}, m, truth, random));
    holds = holds && centred.deviation < plain.deviation;
  }
  std::printf(
      "\nw_i and w_i - 1/m have the same mean, which is short of 1 by the bias of self-normalised weights and\n"
      "nears it as m grows; at m = 1 it is 0 whatever the answer. The third line is the gradient of another\n"
      "objective, the expected log-likelihood E[log p(y|x,d_z)]: its mean does not depend on m.\n");
  return holds ? EXIT_SUCCESS : EXIT_FAILURE;
}
