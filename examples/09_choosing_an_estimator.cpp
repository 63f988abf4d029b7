// SPDX-License-Identifier: Apache-2.0
// One problem, trained with different proposals, objectives and estimators: how each is asked for. Prints the exact
// log p(y|x) before and after; docs/estimators.md says which is good for what.
#include <cmath>
#include <cstdio>
#include <span>
#include <string_view>

#include <dro/dro.hpp>
#include <dro/models/table.hpp>

namespace {

constexpr dro::index_t documents = 5;
constexpr dro::index_t chosen = 2;
constexpr dro::index_t questions = 4;

using backend = dro::host_backend;

/// All questions as one batch, whatever their order.
struct all_questions {
  static std::size_t size() { return questions; }
  static dro::models::table_rows batch(std::span<const dro::index_t>) { return {0, questions}; }
};

/// Question q is answered with documents q and q + 1, whichever comes first: the reader knows it, the selector does
/// not.
struct problem {
  backend b{1};
  dro::models::table_selector<backend> selector;
  dro::models::table_generator<backend> reader;
  dro::sgd<backend> optimizer{b, {.learning_rate = 0.3}};

  problem()
      : selector(b, dro::host_matrix<double>(questions, documents)),
        reader(b, documents, chosen, logits(), dro::host_matrix<std::int32_t>(questions, 1)) {}

  static dro::host_matrix<double> logits() {
    const auto rankings = dro::enumerate_rankings(documents, chosen);
    dro::host_matrix<double> table(questions * rankings.rows(), 2);  // the right answer, and a wrong one
    for (dro::index_t q = 0; q < questions; ++q) {
      for (dro::index_t z = 0; z < rankings.rows(); ++z) {
        const bool has_both =
            rankings(z, 0) + rankings(z, 1) == 2 * q + 1 && std::abs(rankings(z, 0) - rankings(z, 1)) == 1;
        table(q * rankings.rows() + z, 0) = has_both ? 2 : -1;
      }
    }
    return table;
  }

  /// Mean of log p(y|x) over the questions, exactly.
  double evidence() {
    dro::random_state random(b, 0);
    const auto e = dro::e_step(b, selector, reader, dro::exhaustive(documents), dro::models::table_rows{0, questions},
                               {.select = chosen}, random);
    double sum = 0;
    for (dro::index_t q = 0; q < questions; ++q) sum += e.weights.log_evidence(q, 0);
    return sum / questions;
  }
};

const dro::em_options options{.loop = {.iterations = 150, .batch_size = questions},
                              .draw = {.samples = 4, .select = chosen}};
bool all_learned = true;

void report(std::string_view name, problem& p) {
  const double before = problem().evidence();
  const double after = p.evidence();
  std::printf("%-58.*s %7.3f %7.3f\n", static_cast<int>(name.size()), name.data(), before, after);
  all_learned = all_learned && after > before + 0.3;
}

/// em on `target`, with the selector's own draws.
template <class Target>
void train(std::string_view name, const Target& target) {
  problem p;
  dro::em(p.b, p.selector, p.reader, all_questions{}, target, p.optimizer, dro::frozen{}, options);
  report(name, p);
}

/// em on `target`, with draws from make_proposal(selector).
template <class MakeProposal, class Target>
void train(std::string_view name, const MakeProposal& make_proposal, const Target& target) {
  problem p;
  dro::em(p.b, p.selector, p.reader, make_proposal(p), all_questions{}, target, p.optimizer, dro::frozen{}, options);
  report(name, p);
}

/// An objective of one's own: the evidence, with each weight raised to a power before they are normalised again.
struct sharpened_evidence {
  static constexpr const char* name = "sharpened evidence";
  static constexpr dro::index_t least_samples = 1;
  static constexpr bool valid_over_steps = true;  // coefficients ≥ 0
  double power = 2;

  template <class T, class Team, class Out>
  DRO_HOST_DEVICE dro::status operator()(Team& team, const dro::query_draws<T>& draws, const Out& out) const {
    const auto sharp = [&](dro::index_t i) {
      return draws.weight(i) > T(0) ? dro::math::exp(static_cast<T>(power) * dro::math::log(draws.weight(i))) : T(0);
    };
    const T sum = team.template sum<T>(draws.size(), sharp);
    team.for_each(draws.size(), [&](dro::index_t i) { out(i, sharp(i) / sum, sharp(i) / sum); });
    return dro::status::ok;
  }
};

}  // namespace

int main() {
  namespace baseline = dro::baseline;
  std::printf("%-58s  before   after\n", "mean log p(y|x)");
  train("evidence, centred: the default", dro::evidence<>{});
  train("evidence, the paper's plain weights", dro::evidence<baseline::none>{});
  train("importance-weighted bound", dro::importance_weighted_bound<>{});
  train("expected log-likelihood, leave-one-out", dro::expected_log_likelihood<>{});
  train("expected log-likelihood, greedy baseline", dro::greedy_baseline<dro::expected_log_likelihood>{});
  backend b(1);
  train("expected log-likelihood, moving average",
        dro::moving_average_baseline<dro::expected_log_likelihood, backend>(b, 0.9));
  train("evidence with set scores", dro::set_scores<dro::evidence<>>{});
  train("evidence, truncated and tempered weights",
        dro::calibrated(dro::evidence<>{}, dro::calibration::truncate{}, dro::calibration::temper{.target = 0.4}));
  train("evidence and an entropy bonus", dro::regularised<dro::evidence<>>{.entropy = 0.02});
  train("an objective of one's own", sharpened_evidence{});

  const auto mixed = [](problem& p) { return dro::mixture(0.7, p.selector, dro::uniform<double>(documents)); };
  train("from a mixture with the uniform proposal", mixed, dro::evidence<>{});
  const auto pairs = [](problem& p) {
    return dro::sampled_selector(p.selector, {.noise = {dro::noise_kind::antithetic}});
  };
  train("from antithetic pairs", pairs, dro::evidence<>{});
  const auto distinct = [](problem& p) { return dro::without_replacement(p.selector); };
  train("without replacement", distinct, dro::evidence<>{});
  train("without replacement, unordered-set estimator", distinct, dro::unordered_sets<dro::unordered_set::evidence>{});
  const auto shared_out = [](problem& p) {
    return dro::sample_allocation<backend>(p.b, questions, {.samples = 4, .least = 2, .most = 12});
  };
  train("adaptive E-step, 4 draws a question on average", shared_out, dro::evidence<>{});
  return all_learned ? 0 : 1;
}
