// SPDX-License-Identifier: Apache-2.0
// Why an M-step climbs the evidence. With q the posterior at the parameters θ^t of both models, the direction in which
// the M-step sets out is the gradient of the evidence (Fisher's identity):
//
//     Σ_z p(z|x,y; θ^t) ∇ [ log p(z|x; θ) + log p(y|x,d_z; θ) ]  =  ∇ log p(y|x; θ)        at θ = θ^t
//
// In other words: the bound B(θ) = Σ_z q(z) [ log p(y,z|x; θ) − log q(z) ] touches log p(y|x; θ) from below at θ^t,
// with the same slope. Elsewhere neither holds, which is why the next step needs a new q.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <dro/dro.hpp>
#include <dro/models/table.hpp>

namespace {

using backend = dro::host_backend;
using vector = std::vector<double>;

constexpr dro::index_t documents = 4;
constexpr dro::index_t chosen = 2;
constexpr dro::index_t answers = 3;
constexpr dro::models::table_rows question{.first = 0, .count = 1};

/// One question, both models, and all their parameters θ in one list: 4 scores, then 12 × 3 logits.
class toy {
 public:
  explicit toy(backend& b)
      : backend_(b),
        selector_(b, scores()),
        reader_(b, documents, chosen, logits(), dro::host_matrix<std::int32_t>(1, 1)),
        random_(b, /*seed=*/1) {
    const auto collect = [&](auto values, auto slopes) {
      for (dro::index_t r = 0; r < values.rows; ++r) {
        for (dro::index_t c = 0; c < values.cols; ++c) {
          theta.push_back(&values(r, c));
          gradient_.push_back(&slopes(r, c));
        }
      }
    };
    selector_.for_each_parameter(collect);
    reader_.for_each_parameter(collect);
  }

  [[nodiscard]] auto exact_e_step() {
    return dro::e_step(backend_, selector_, reader_, dro::exhaustive(documents), question, {.select = chosen}, random_);
  }
  [[nodiscard]] double evidence() { return exact_e_step().weights.log_evidence(0, 0); }

  // [direction]
  /// Σ_z c(z) ∇ [log p(z|x) + log p(y|x,d_z)] at θ: where an M-step with the weights c would go.
  template <class EStep>
  [[nodiscard]] vector direction(const EStep& e, const dro::host_matrix<double>& c) {
    for (double* slope : gradient_) *slope = 0;
    selector_.accumulate_gradient(backend_, question, e.z, c);
    reader_.accumulate_gradient(backend_, question, e.z, c);
    vector d;
    for (const double* slope : gradient_) d.push_back(*slope);
    return d;
  }

  /// B(θ) for the q that `e` found, at other θ maybe.
  template <class EStep>
  [[nodiscard]] double bound(const EStep& e) {
    const auto prior = selector_.log_prob(backend_, question, e.z);
    const auto likelihood = reader_.log_likelihood(backend_, question, e.z);
    double sum = 0;
    for (dro::index_t z = 0; z < prior.rows(); ++z) {
      const double q = e.weights.normalised(z, 0);
      sum += q * (prior(z, 0) + likelihood(z, 0) - std::log(q));
    }
    return sum;
  }
  // [direction]

  std::vector<double*> theta;

 private:
  static dro::host_matrix<double> scores() {
    dro::host_matrix<double> s(1, documents);
    for (dro::index_t j = 0; j < documents; ++j) s(0, j) = std::sin(1.0 + static_cast<double>(j));
    return s;
  }
  static dro::host_matrix<double> logits() {
    dro::host_matrix<double> l(dro::ranking_count(documents, chosen), answers);
    for (dro::index_t z = 0; z < l.rows(); ++z) {
      for (dro::index_t a = 0; a < answers; ++a) l(z, a) = 2 * std::cos(static_cast<double>(5 * z + 2 * a));
    }
    return l;
  }

  backend& backend_;
  dro::models::table_selector<backend> selector_;
  dro::models::table_generator<backend> reader_;
  dro::random_state<backend> random_;
  std::vector<double*> gradient_;
};

/// df/dx by central differences: the error is about h² f‴/6 + ε |f|/h, 1e-10 for values of order 1.
template <class F>
double slope(F&& f) {
  constexpr double h = 1e-5;
  return (f(h) - f(-h)) / (2 * h);
}

}  // namespace

int main() {
  backend b;
  toy t(b);
  const auto e = t.exact_e_step();
  const vector m_step = t.direction(e, e.weights.normalised);
  dro::host_matrix<double> prior(e.z.groups().total(), 1);
  for (dro::index_t z = 0; z < prior.rows(); ++z) prior(z, 0) = std::exp(e.log_selector(z, 0));
  const vector from_prior = t.direction(e, prior);

  vector truth;
  for (double* parameter : t.theta) {
    const double kept = *parameter;
    truth.push_back(slope([&](double h) {
      *parameter = kept + h;
      const double evidence = t.evidence();
      *parameter = kept;
      return evidence;
    }));
  }

  std::printf("parameter                  d log p(y|x)   M-step, q = posterior   M-step, q = p(z|x)\n");
  double worst = 0;
  double prior_is_off = 0;
  for (std::size_t k = 0; k < truth.size(); ++k) {
    if (k < 7) {  // the scores, and one list's logits
      const bool is_score = k < static_cast<std::size_t>(documents);
      std::printf("%-22s %zu %15.9f   %21.9f   %18.9f\n", is_score ? "score of document" : "logit of 0 > 1, answer",
                  is_score ? k : k - static_cast<std::size_t>(documents), truth[k], m_step[k], from_prior[k]);
    }
    worst = std::max(worst, std::abs(m_step[k] - truth[k]));
    prior_is_off = std::max(prior_is_off, std::abs(from_prior[k] - truth[k]));
  }
  std::printf("largest difference, of %zu parameters: %.1e with the posterior, %.1e with p(z|x)\n\n", truth.size(),
              worst, prior_is_off);
  bool holds = worst < 1e-9 && prior_is_off > 0.01;

  std::printf("Along the line θ^t + s · direction, q kept as it was at θ^t:\n\n");
  std::printf("     s   log p(y|x)        bound          gap   slope of log p   slope of bound\n");
  vector start;
  for (const double* parameter : t.theta) start.push_back(*parameter);
  const auto go_to = [&](double s) {
    for (std::size_t k = 0; k < start.size(); ++k) *t.theta[k] = start[k] + s * m_step[k];
  };
  for (const double s : {-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 8.0}) {
    const auto evidence_at = [&](double h) { return go_to(s + h), t.evidence(); };
    const auto bound_at = [&](double h) { return go_to(s + h), t.bound(e); };
    const double gap = evidence_at(0) - bound_at(0);
    const double of_evidence = slope(evidence_at), of_bound = slope(bound_at);
    std::printf("%6.1f   %10.6f   %10.6f   %10.6f   %14.6f   %14.6f\n", s, evidence_at(0), bound_at(0), gap,
                of_evidence, of_bound);
    // Rounding of two sums of a dozen terms, and the error of a slope.
    const bool touches = std::abs(gap) < 1e-12 && std::abs(of_evidence - of_bound) < 1e-9;
    holds = holds && gap > -1e-12 && touches == (s == 0.0);
  }
  return holds ? EXIT_SUCCESS : EXIT_FAILURE;
}
