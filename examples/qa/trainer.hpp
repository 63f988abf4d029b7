// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_QA_TRAINER_HPP
#define DRO_EXAMPLES_QA_TRAINER_HPP

/// \file
/// One run of one method: the two models, their optimisers, and the step that the method takes on a batch.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <dro/dro.hpp>
#include <dro/models/question_models.hpp>

#include "departures.hpp"
#include "methods.hpp"

namespace qa {

using backend = dro::host_backend;
using batch = dro::item_batch<dro::models::prepared_question>;
using draws = dro::draws<backend, double>;
using matrix = dro::host_matrix<double>;

/// What was chosen on a split of training questions; the same for every method.
struct hyper_parameters {
  double selector_rate = 0.2;
  double selector_decay = 1e-4;
  double reader_rate = 0.1;
  double reader_decay = 1e-2;
  dro::index_t batch_size = 16;
};

/// Gold documents of each training question; only gold-supervised looks at them.
using gold_lists = std::vector<std::vector<dro::document_t>>;

class trainer {
 public:
  trainer(backend& b, const method& m, std::size_t reader_features, const dro::models::reader_options& reader,
          const dro::draw_options& draw, const dro::loop_options& loop, const hyper_parameters& hyper,
          const variation& differs = {})
      : backend_(b),
        method_(m),
        variation_(differs),
        draw_(draw),
        loop_(loop),
        selector_(dro::models::feature_selector(selector_for(m))),
        reader_(dro::models::extractive_reader(reader_features, reader)),
        selector_optimizer_(b, {.learning_rate = hyper.selector_rate, .weight_decay = hyper.selector_decay}),
        reader_optimizer_(b, {.learning_rate = hyper.reader_rate, .weight_decay = hyper.reader_decay}),
        run_(b, loop.seed) {
    loop_.batch_size = hyper.batch_size;
    selector_optimizer_.prepare(b, selector_);
    reader_optimizer_.prepare(b, reader_);
  }

  [[nodiscard]] const method& trained_by() const { return method_; }
  [[nodiscard]] const dro::models::question_selector& selector() const { return selector_; }
  [[nodiscard]] const dro::models::question_reader& reader() const { return reader_; }
  [[nodiscard]] const dro::loop_position& position() const { return run_.position; }

  /// Trains until all iterations are done (true) or a callback stops (false).
  template <class... Callbacks>
  bool train(std::span<const dro::models::prepared_question> questions, const gold_lists& gold,
             Callbacks&... callbacks) {
    const dro::item_source<dro::models::prepared_question> source(questions);
    const auto em = [&](const auto& objective) {
      const auto with = [&](auto&& selector_optimizer, auto&& reader_optimizer) {
        return dro::em(backend_, selector_, reader_, source, objective, selector_optimizer, reader_optimizer,
                       {.loop = loop_, .draw = draw_}, run_, callbacks...);
      };
      if (variation_.selector_is_frozen) return with(dro::frozen{}, reader_optimizer_);
      if (variation_.reader_is_frozen) return with(selector_optimizer_, dro::frozen{});
      return with(selector_optimizer_, reader_optimizer_);
    };
    const auto loop = [&](auto&& step) {
      return dro::training_loop(
          source, loop_, run_.position, step, [&] { return run_.totals.take(backend_); }, callbacks...);
    };
    switch (method_.id) {
      case method_id::dro:
        return em(dro::evidence<dro::baseline::centred>{});
      case method_id::dro_plain:
        if (variation_.departs != departures{}) {
          return loop([&](const batch& x) { step_departing(x, variation_.departs); });
        }
        return em(dro::evidence<dro::baseline::none>{});
      case method_id::leave_one_out:
        return em(dro::expected_log_likelihood<>{});
      case method_id::gold_supervised:
        return loop([&](const batch& x) { step_gold_supervised(x, questions, gold); });
      case method_id::published_code:
        return loop([&](const batch& x) { step_departing(x, published); });
      case method_id::rag_sequence:
        return loop([&](const batch& x) { step_rag_sequence(x); });
      case method_id::emdr2:
      case method_id::emdr2_linked:
        return loop([&](const batch& x) { step_emdr2(x); });
      case method_id::replug:
        return loop([&](const batch& x) { step_replug(x); });
      case method_id::stochastic_rag:
        return loop([&](const batch& x) { step_stochastic_rag(x); });
      case method_id::retriever_order:
        // The untrained selector is the retriever: its BM25 weight is 1 and all others are 0.
        return loop([&](const batch& x) { read_together(x, best_documents(x)); });
      case method_id::read_all:
        return loop([&](const batch& x) { read_each_whole(x); });
    }
    return true;
  }

  /// Calls f(name, span) for everything that a run needs to go on.
  template <class F>
  void for_each_state(F&& f) {
    const auto values = [&](const std::string& name, auto& model) {
      model.for_each_parameter(
          [&](auto value, auto) { f(name, std::span(value.data, static_cast<std::size_t>(value.rows * value.cols))); });
    };
    const auto memory = [&](const std::string& name, auto& optimizer) {
      optimizer.for_each_state([&](const std::string& part, auto& m) {
        f(name + "." + part, std::span(m.data(), static_cast<std::size_t>(m.rows() * m.cols())));
      });
    };
    values("selector", selector_);
    values("reader", reader_);
    memory("selector.optimizer", selector_optimizer_);
    memory("reader.optimizer", reader_optimizer_);
    f("totals", std::span(run_.totals.matrix().data(), static_cast<std::size_t>(run_.totals.matrix().cols())));
    std::array<dro::index_t, 2> place{run_.position.iteration, run_.position.batch};
    f("position", std::span<dro::index_t>(place));
    run_.position = {place[0], place[1]};
    std::array<std::uint32_t, 1> step{dro::read(backend_, run_.random.step())(0, 0)};
    f("random.step", std::span<std::uint32_t>(step));
    run_.random = dro::random_state<backend>(backend_, loop_.seed, step[0]);
  }

  /// The K documents of highest score, best first, for each question: [questions × K].
  [[nodiscard]] draws best_documents(const batch& x) const {
    const matrix all_scores = selector_.scores(backend_, x);
    dro::host_matrix<dro::document_t> rankings(all_scores.rows(), draw_.select);
    std::vector<dro::document_t> order(static_cast<std::size_t>(all_scores.cols()));
    for (dro::index_t q = 0; q < all_scores.rows(); ++q) {
      std::iota(order.begin(), order.end(), dro::document_t{0});
      std::partial_sort(order.begin(), order.begin() + draw_.select, order.end(), [&](auto a, auto b) {
        return all_scores(q, a) != all_scores(q, b) ? all_scores(q, a) > all_scores(q, b) : a < b;
      });
      std::copy_n(order.begin(), draw_.select, rankings.data() + q * draw_.select);
    }
    return one_list_each(std::move(rankings));
  }

 private:
  [[nodiscard]] draws one_list_each(dro::host_matrix<dro::document_t> rankings) const {
    const dro::index_t count = rankings.rows();
    return {backend_, std::move(rankings), matrix(count, 1), dro::grouping::uniform(count, 1)};
  }

  /// Every document of every question alone; places beyond a question's own documents are empty.
  [[nodiscard]] draws single_documents(const batch& x) const {
    const auto count = static_cast<dro::index_t>(x.size());
    dro::index_t most = 0;
    for (dro::index_t q = 0; q < count; ++q) most = std::max(most, selector_.scorer().document_count(x[q]));
    dro::host_matrix<dro::document_t> rankings(count * most, 1);
    for (dro::index_t q = 0; q < count; ++q) {
      const dro::index_t own = selector_.scorer().document_count(x[q]);
      for (dro::index_t j = 0; j < most; ++j) {
        rankings(q * most + j, 0) = j < own ? static_cast<dro::document_t>(j) : dro::no_document;
      }
    }
    return {backend_, std::move(rankings), matrix(count * most, 1), dro::grouping::uniform(count, most)};
  }

  /// One value for each (question, document) as a table.
  [[nodiscard]] static dro::matrix_view<const double> table(const matrix& flat, dro::index_t questions) {
    return dro::row_major_view(flat.data(), questions, questions == 0 ? 0 : flat.rows() / questions);
  }

  /// A step of maximum likelihood of the reader on one list a question.
  void read_together(const batch& x, const draws& z) {
    const auto count = static_cast<dro::index_t>(x.size());
    const matrix log_likelihood = reader_.log_likelihood(backend_, x, z);
    const auto weights = dro::importance_weights(backend_, dro::on_policy(backend_, log_likelihood, z.groups()));
    run_.totals.add(backend_, weights, weights.status, z.groups());
    reader_.accumulate_gradient(
        backend_, x, z, dro::make_filled<double>(backend_, z.groups().total(), 1, 1.0 / static_cast<double>(count)));
    reader_optimizer_.step(backend_, reader_);
  }

  void read_each_whole(const batch& x) {
    // Questions with fewer documents than others repeat their first one; a set knows no repetition.
    const auto count = static_cast<dro::index_t>(x.size());
    dro::index_t most = 0;
    for (dro::index_t q = 0; q < count; ++q) most = std::max(most, selector_.scorer().document_count(x[q]));
    dro::host_matrix<dro::document_t> rankings(count, most);
    for (dro::index_t q = 0; q < count; ++q) {
      for (dro::index_t j = 0; j < most; ++j) {
        rankings(q, j) = static_cast<dro::document_t>(j < selector_.scorer().document_count(x[q]) ? j : 0);
      }
    }
    read_together(x, one_list_each(std::move(rankings)));
  }

  /// Scores of the selector, log-likelihoods of single documents, and the two gradients of their marginal.
  struct marginal {
    draws z;
    matrix d_scores;
    matrix responsibility;
  };
  [[nodiscard]] marginal single_document_marginal(const batch& x) const {
    const auto count = static_cast<dro::index_t>(x.size());
    draws z = single_documents(x);
    const matrix all_scores = selector_.scores(backend_, x);
    const matrix log_likelihood = reader_.log_likelihood(backend_, x, z);
    matrix d_scores(count, all_scores.cols());
    matrix responsibility(z.groups().total(), 1);
    dro::rag_sequence_gradient(backend_, backend_.view(all_scores), table(log_likelihood, count),
                               backend_.view(d_scores),
                               dro::row_major_view(responsibility.data(), count, all_scores.cols()));
    return {std::move(z), std::move(d_scores), std::move(responsibility)};
  }

  void step_selector(const batch& x, const matrix& d_scores) {
    selector_.accumulate_score_gradient(backend_, x, d_scores);
    selector_optimizer_.step(backend_, selector_);
  }

  void step_rag_sequence(const batch& x) {
    const marginal m = single_document_marginal(x);
    reader_.accumulate_gradient(backend_, x, m.z, m.responsibility);
    step_selector(x, m.d_scores);
    reader_optimizer_.step(backend_, reader_);
  }

  void step_emdr2(const batch& x) {
    const marginal m = single_document_marginal(x);
    const draws together = best_documents(x);
    step_selector(x, m.d_scores);
    read_together(x, together);
  }

  void step_replug(const batch& x) {
    const auto count = static_cast<dro::index_t>(x.size());
    const matrix all_scores = selector_.scores(backend_, x);
    const matrix log_likelihood = reader_.log_likelihood(backend_, x, single_documents(x));
    matrix d_scores(count, all_scores.cols());
    dro::replug_gradient(backend_, backend_.view(all_scores), table(log_likelihood, count), backend_.view(d_scores));
    const draws together = best_documents(x);
    step_selector(x, d_scores);
    read_together(x, together);
  }

  // One list a question: the straight-through gradient asks the reader n more times for each.
  void step_stochastic_rag(const batch& x) {
    const auto count = static_cast<dro::index_t>(x.size());
    const matrix all_scores = selector_.scores(backend_, x);
    const dro::random_source source = run_.random.source(backend_);
    const draws z = dro::draw_plackett_luce(backend_, all_scores, source, {1, draw_.select});
    matrix perturbed(count, all_scores.cols());
    dro::plackett_luce_conditional_noise(backend_, all_scores, backend_.view(z.rankings()), z.groups(),
                                         dro::substream(source, 0), backend_.view(perturbed));
    run_.random.advance(backend_);
    matrix likelihood(count, 1);
    matrix gain(count, all_scores.cols());
    const auto read = [&](dro::index_t q, const std::vector<dro::document_t>& list,
                          dro::models::extractive_reader::workspace& workspace) {
      return list.empty() ? 0.0 : std::exp(reader_.scorer().log_likelihood(x[q], list, workspace));
    };
    backend_.run(count, [&](auto&, dro::index_t q) {
      dro::models::extractive_reader::workspace workspace;
      const dro::document_t* chosen = z.rankings().data() + q * draw_.select;
      std::vector<dro::document_t> list(chosen, chosen + draw_.select);
      likelihood(q, 0) = read(q, list, workspace);
      for (dro::index_t j = 0; j < all_scores.cols(); ++j) {
        std::vector<dro::document_t> other = list;
        const auto place = std::find(other.begin(), other.end(), static_cast<dro::document_t>(j));
        const bool is_chosen = place != other.end();
        if (is_chosen) {
          other.erase(place);
        } else if (j < selector_.scorer().document_count(x[q])) {
          other.push_back(static_cast<dro::document_t>(j));
        }
        const double changed = read(q, other, workspace);
        gain(q, j) = is_chosen ? likelihood(q, 0) - changed : changed - likelihood(q, 0);
      }
    });
    matrix d_scores(count, all_scores.cols());
    dro::straight_through_gradient(backend_, backend_.view(std::as_const(perturbed)), backend_.view(z.rankings()),
                                   backend_.view(std::as_const(gain)), backend_.view(d_scores));
    // The utility is E[p(y|x,d_z)], so the reader's coefficient is the likelihood itself.
    for (dro::index_t q = 0; q < count; ++q) likelihood(q, 0) /= static_cast<double>(count);
    reader_.accumulate_gradient(backend_, x, z, likelihood);
    step_selector(x, d_scores);
    reader_optimizer_.step(backend_, reader_);
  }

  /// The selector maximises log Σ p(z) over the orders of the gold documents; the reader learns as in DRO.
  void step_gold_supervised(const batch& x, std::span<const dro::models::prepared_question> questions,
                            const gold_lists& gold) {
    auto e = dro::e_step(backend_, selector_, reader_, x, draw_, run_.random);
    run_.totals.add(backend_, e.weights, e.weights.status, e.z.groups());
    for (dro::index_t q = 0; q < static_cast<dro::index_t>(x.size()); ++q) {
      const dro::index_t place = &x[q] - questions.data();
      const auto& own = gold[static_cast<std::size_t>(place)];
      if (own.empty()) continue;
      const batch one(questions, {place});
      const draws orders = gold_orders(own);
      const matrix log_prob = selector_.log_prob(backend_, one, orders);
      // Σ over orders of p(z) is maximised by the weights p(z) / Σ p, as the evidence is.
      matrix c = dro::importance_weights(backend_, dro::on_policy(backend_, log_prob, orders.groups())).normalised;
      for (dro::index_t k = 0; k < c.rows(); ++k) c(k, 0) /= static_cast<double>(x.size());
      selector_.accumulate_gradient(backend_, one, orders, c);
    }
    selector_optimizer_.step(backend_, selector_);
    const auto c = dro::coefficients(backend_, dro::evidence<dro::baseline::none>{}, e.scores(backend_), e.weights);
    reader_.accumulate_gradient(backend_, x, e.z, c.generator);
    reader_optimizer_.step(backend_, reader_);
  }

  /// All rankings of min(K, their number) of the gold documents of one question; of the first six if there are more.
  [[nodiscard]] draws gold_orders(const std::vector<dro::document_t>& gold) const {
    const auto count = static_cast<dro::index_t>(std::min<std::size_t>(gold.size(), 6));
    auto orders = dro::enumerate_rankings(count, std::min(count, draw_.select));
    for (dro::document_t& j : std::span(orders.data(), static_cast<std::size_t>(orders.rows() * orders.cols()))) {
      j = gold[static_cast<std::size_t>(j)];
    }
    const dro::index_t rows = orders.rows();
    return {backend_, std::move(orders), matrix(rows, 1), dro::grouping::uniform(1, rows)};
  }

  /// A step of DRO with plain weights and the departures `d` of the published code.
  void step_departing(const batch& x, const departures& d) {
    const auto count = static_cast<dro::index_t>(x.size());
    const dro::random_source source = run_.random.source(backend_);
    draws z = selector_.draw(backend_, x, {d.one_sample ? 1 : draw_.samples, draw_.select}, source,
                             d.uncorrected_sampling ? published_sampling : dro::sampling{});
    const std::vector<char> lost = lost_lists(z, d.unparsed_dropped ? unparsed_share : 0, source.key());
    run_.random.advance(backend_);
    if (d.duplicates_dropped) z = dro::deduplicate(backend_, std::move(z), {.keep_multiplicity = false});
    if (variation_.is_corrected) {
      matrix times = dro::make_filled<double>(backend_, z.groups().total(), 1, 1.0);
      for (dro::index_t i = 0; i < times.rows(); ++i) {
        if (z.has_multiplicity()) times(i, 0) = z.multiplicity()(i, 0);
        if (lost[static_cast<std::size_t>(i)] != 0) times(i, 0) = 0;
      }
      z.set_multiplicity(backend_, std::move(times));
    }

    const matrix log_likelihood = reader_.log_likelihood(backend_, x, z);
    // The published code takes all lists for the selector's own draws, so that w ∝ p(y|x,d_z), however they were drawn.
    const matrix log_selector = variation_.is_corrected ? selector_.log_prob(backend_, x, z) : matrix();
    const auto scored = variation_.is_corrected ? dro::off_policy(backend_, log_selector, log_likelihood, z)
                                                : dro::on_policy(backend_, log_likelihood, z);
    const auto lengths = answer_words(x);
    const auto weights =
        d.mean_token_weights
            ? dro::calibrate(backend_, scored, dro::calibration::length_normalise{backend_.view(lengths)}).used
            : dro::importance_weights(backend_, scored);
    run_.totals.add(backend_, weights, weights.status, z.groups());
    auto c = dro::coefficients(backend_, dro::evidence<dro::baseline::none>{}, scored, weights,
                               d.divided_by_four ? 4 : count);
    for (dro::index_t i = 0; i < c.selector.rows(); ++i) {
      if (lost[static_cast<std::size_t>(i)] != 0) c.selector(i, 0) = c.generator(i, 0) = 0;
    }
    selector_.accumulate_gradient(backend_, x, z, c.selector);
    selector_optimizer_.step(backend_, selector_);
    reader_.accumulate_gradient(backend_, x, z, c.generator);
    reader_optimizer_.step(backend_, reader_);
  }

  /// Which lists of `z` are lost, each with probability `share`. The noise is a part of the step's that draws leave.
  [[nodiscard]] static std::vector<char> lost_lists(const draws& z, double share, const dro::random_key& key) {
    constexpr std::uint32_t position = 0xFFFFFFFFU;
    const dro::index_t samples = z.groups().per_query();
    std::vector<char> lost(static_cast<std::size_t>(z.groups().total()));
    for (std::size_t i = 0; i < lost.size(); ++i) {
      const auto draw = static_cast<dro::index_t>(i);
      const std::uint32_t word = dro::random_word(key, static_cast<std::uint32_t>(draw / samples),
                                                  static_cast<std::uint32_t>(draw % samples), position);
      lost[i] = static_cast<double>(word) < share * 4294967296.0;
    }
    return lost;
  }

  /// Words of each question's answer in normal form, [questions × 1].
  [[nodiscard]] static dro::host_matrix<std::int32_t> answer_words(const batch& x) {
    dro::host_matrix<std::int32_t> words(static_cast<dro::index_t>(x.size()), 1);
    for (dro::index_t q = 0; q < words.rows(); ++q) {
      const auto& accepted = x[q].for_reader.accepted;
      if (accepted.empty()) continue;
      words(q, 0) = 1 + static_cast<std::int32_t>(std::count(accepted.front().begin(), accepted.front().end(), ' '));
    }
    return words;
  }

  backend& backend_;
  method method_;
  variation variation_;
  dro::draw_options draw_;
  dro::loop_options loop_;
  dro::models::question_selector selector_;
  dro::models::question_reader reader_;
  dro::adagrad<backend> selector_optimizer_;
  dro::adagrad<backend> reader_optimizer_;
  dro::em_run<backend> run_;
};

}  // namespace qa

#endif
