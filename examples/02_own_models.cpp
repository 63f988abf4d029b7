// SPDX-License-Identifier: Apache-2.0
// A selector and a reader of your own: plain classes that answer what the concepts ask, trained together by dro::em.
//
// Made-up task: a yes/no question, eight documents. Each document makes a claim, a number above 0 for yes and below 0
// for no. Documents that are on topic and recent tell the truth, the others say anything. Nothing is labelled but the
// answer: which documents to trust is for the selector to find out, and what a claim means for the reader.

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <vector>

#include <dro/dro.hpp>

namespace {

using backend = dro::host_backend;

// [question]
constexpr dro::index_t documents = 8;
constexpr dro::index_t features = 3;

struct document {
  std::array<double, features> feature;  // on topic, recent, noise
  double claim;
};

struct question {
  std::array<document, documents> candidates;
  bool answer;
};

using questions = dro::item_batch<question>;  // what the models are given: some questions of a list
// [question]

// [selector]
/// Plackett–Luce over scores s_j = θ · features of document j.
class linear_selector {
 public:
  using scalar_type = double;

  dro::draws<backend, double> draw(backend& b, const questions& batch, const dro::draw_options& options,
                                   const dro::random_source& random) const {
    return dro::draw_plackett_luce(b, scores(b, batch), random, options);
  }

  dro::host_matrix<double> log_prob(backend& b, const questions& batch, const dro::draws<backend, double>& z) const {
    auto out = b.make<double>(z.groups().total(), 1);
    dro::plackett_luce_log_prob(b, scores(b, batch), b.view(z.rankings()), z.groups(), b.view(out));
    return out;
  }

  /// gradient += Σ c_i ∇ log p(z_i|x), by the chain rule: the library gives ∂/∂s, and ∂s_j/∂θ is the features.
  void accumulate_gradient(backend& b, const questions& batch, const dro::draws<backend, double>& z,
                           const dro::host_matrix<double>& coefficients) {
    auto d_scores = dro::make_filled<double>(b, static_cast<dro::index_t>(batch.size()), documents, 0.0);
    dro::accumulate_plackett_luce_gradient(b, scores(b, batch), b.view(z.rankings()), z.groups(), coefficients,
                                           b.view(d_scores));
    for (dro::index_t q = 0; q < d_scores.rows(); ++q) {
      for (dro::index_t j = 0; j < documents; ++j) {
        for (std::size_t k = 0; k < features; ++k) gradient_[k] += d_scores(q, j) * feature(batch[q], j)[k];
      }
    }
  }

  /// What the library's optimisers move: f(values, their gradient), once for each matrix of parameters.
  template <class F>
  void for_each_parameter(F&& f) {
    f(dro::row_major_view(theta.data(), 1, features), dro::row_major_view(gradient_.data(), 1, features));
  }

  std::array<double, features> theta{};

 private:
  static const std::array<double, features>& feature(const question& x, dro::index_t j) {
    return x.candidates[static_cast<std::size_t>(j)].feature;
  }

  /// [questions × documents], nats. A row program: b.run calls it for each row, on as many threads as there are.
  dro::host_matrix<double> scores(backend& b, const questions& batch) const {
    auto s = b.make<double>(static_cast<dro::index_t>(batch.size()), documents);
    b.run(s.rows(), [&](auto&, dro::index_t q) {
      for (dro::index_t j = 0; j < documents; ++j) {
        s(q, j) = std::inner_product(theta.begin(), theta.end(), feature(batch[q], j).begin(), 0.0);
      }
    });
    return s;
  }

  std::array<double, features> gradient_{};
};
// [selector]

// [reader]
/// p(yes|x,d_z) = sigmoid(a · sum of the claims in z + b).
class logistic_reader {
 public:
  dro::host_matrix<double> log_likelihood(backend& b, const questions& batch,
                                          const dro::draws<backend, double>& z) const {
    auto out = b.make<double>(z.groups().total(), 1);
    b.run(z.groups().queries(), [&](auto&, dro::index_t q) {
      for (dro::index_t i = 0; i < z.groups().size(q); ++i) {
        const dro::index_t draw = z.groups().begin(q) + i;
        const double logit = slope * claims(batch[q], z.rankings(), draw) + intercept;
        out(draw, 0) = -std::log1p(std::exp(batch[q].answer ? -logit : logit));
      }
    });
    return out;
  }

  void accumulate_gradient(backend&, const questions& batch, const dro::draws<backend, double>& z,
                           const dro::host_matrix<double>& coefficients) {
    for (dro::index_t q = 0; q < z.groups().queries(); ++q) {
      for (dro::index_t i = 0; i < z.groups().size(q); ++i) {
        const dro::index_t draw = z.groups().begin(q) + i;
        const double sum = claims(batch[q], z.rankings(), draw);
        const double yes = 1 / (1 + std::exp(-(slope * sum + intercept)));
        const double error = (batch[q].answer ? 1.0 : 0.0) - yes;
        slope_gradient_ += coefficients(draw, 0) * error * sum;
        intercept_gradient_ += coefficients(draw, 0) * error;
      }
    }
  }

  template <class F>
  void for_each_parameter(F&& f) {
    f(dro::row_major_view(&slope, 1, 1), dro::row_major_view(&slope_gradient_, 1, 1));
    f(dro::row_major_view(&intercept, 1, 1), dro::row_major_view(&intercept_gradient_, 1, 1));
  }

  double slope = 0;
  double intercept = 0;

 private:
  static double claims(const question& x, const dro::host_matrix<dro::document_t>& rankings, dro::index_t draw) {
    double sum = 0;
    for (dro::index_t t = 0; t < rankings.cols(); ++t) {
      const dro::document_t j = rankings(draw, t);
      if (j == dro::no_document) continue;  // a query with fewer than K possible documents
      sum += x.candidates[static_cast<std::size_t>(j)].claim;
    }
    return sum;
  }

  double slope_gradient_ = 0;
  double intercept_gradient_ = 0;
};
// [reader]

/// Questions as described at the top. Features are 0 or 1; a claim has the standard deviation 1.
std::vector<question> make_questions(std::size_t count) {
  const dro::random_key key{.seed = 2024};
  std::vector<question> all(count);
  for (std::size_t q = 0; q < count; ++q) {
    const auto word = [&](std::size_t j, std::uint32_t place) {
      return dro::random_word(key, static_cast<std::uint32_t>(q), static_cast<std::uint32_t>(j), place);
    };
    all[q].answer = word(documents, 0) % 2 == 1;
    for (std::size_t j = 0; j < documents; ++j) {
      document& d = all[q].candidates[j];
      for (std::size_t k = 0; k < features; ++k) d.feature[k] = word(j, static_cast<std::uint32_t>(k)) % 2;
      const double size = dro::noise::exponential<double>(word(j, 4));
      const bool truthful = d.feature[0] == 1 && d.feature[1] == 1;
      d.claim = (truthful ? all[q].answer : word(j, 5) % 2 == 1) ? size : -size;
    }
  }
  return all;
}

// [callback]
/// A callback has on_batch or on_iteration, and may have on_e_step; see dro/em/training_loop.hpp and dro/em/em.hpp.
struct show {
  const linear_selector& selector;
  const logistic_reader& reader;
  double first = 0;
  double last = 0;

  void on_iteration(const dro::loop_progress& p, const dro::step_summary& s) {
    if (p.position.iteration == 1) first = s.evidence;
    last = s.evidence;
    std::printf("%9td  %8.3f  %5.2f | %8.2f %7.2f %6.2f | %6.2f %6.2f\n", p.position.iteration, s.evidence,
                s.effective_sample_size, selector.theta[0], selector.theta[1], selector.theta[2], reader.slope,
                reader.intercept);
  }
};
// [callback]

}  // namespace

int main() {
  // [train]
  backend b;
  linear_selector selector;
  logistic_reader reader;
  const std::vector<question> train = make_questions(400);
  dro::adagrad<backend> selector_optimizer(b, {.learning_rate = 0.3});
  dro::adagrad<backend> reader_optimizer(b, {.learning_rate = 0.1});
  show progress{selector, reader};

  std::printf("iteration  evidence    ESS | on topic  recent  noise |  slope  shift\n");
  dro::em(b, selector, reader, dro::item_source<question>(train), dro::evidence<>{}, selector_optimizer,
          reader_optimizer, {.loop = {.iterations = 10, .batch_size = 16}, .draw = {.samples = 8, .select = 2}},
          progress);
  // [train]

  std::printf(
      "\nA coin has evidence log 1/2 = %.3f. The selector trusts what is on topic and recent and does not care\n"
      "for noise; the reader has learned that claims above 0 mean yes.\n",
      std::log(0.5));
  const bool learned = progress.last > progress.first + 0.1 && selector.theta[0] > 3 * std::abs(selector.theta[2]) &&
                       selector.theta[1] > 3 * std::abs(selector.theta[2]) && reader.slope > 0.5;
  return learned ? EXIT_SUCCESS : EXIT_FAILURE;
}
