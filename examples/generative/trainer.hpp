// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_GENERATIVE_TRAINER_HPP
#define DRO_EXAMPLES_GENERATIVE_TRAINER_HPP

/// \file
/// One run of one method: the two models, their optimisers, warm-up, and the step that the method takes on a batch.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <dro/data/safetensors.hpp>
#include <dro/dro.hpp>
#include <dro/models/generative_reader.hpp>
#include <dro/models/generative_selector.hpp>
#include <dro/models/transformer/weights.hpp>

#include "examples.hpp"
#include "methods.hpp"
#include "one_by_one.hpp"

namespace generative {

/// What decides how a run goes, beside its method and questions.
struct training_options {
  dro::draw_options draw = {8, 2};
  dro::index_t batch_size = 16;
  dro::index_t piece_size = 0;       ///< questions of a step that are worked on at once; 0: all
  dro::index_t warm_up = 6;          ///< passes over the annotated questions
  dro::index_t iterations = 4;       ///< passes over the training questions
  dro::index_t annotated_batch = 4;  ///< annotated questions that each of their steps takes along
  double warm_up_rate = 4e-3;        ///< highest learning rate while warming up
  double rate = 5e-3;                ///< and afterwards
  std::uint64_t seed = 1;
};

/// Both models and what trains them. The backend and the examples outlive it.
class trainer {
 public:
  using draws = dro::draws<backend, number>;
  using matrix = dro::matrix_t<backend, number>;
  using selector_type = dro::models::generative_selector<backend, number>;
  using reader_type = dro::models::generative_reader<backend, number>;

  trainer(backend& b, const method& how, const dro::models::llama_config& config,
          const dro::models::prompt_style& style, std::span<const example> annotated, std::span<const example> train,
          const training_options& o)
      : backend_(b),
        method_(how),
        options_(o),
        style_(style),
        annotated_(annotated),
        train_(train),
        selector_(new_model(b, config, 2 * o.seed)),
        reader_(new_model(b, config, 2 * o.seed + 1), {.sequences = 64}),
        warm_up_{optimiser(o.warm_up_rate, o.warm_up, annotated), optimiser(o.warm_up_rate, o.warm_up, annotated)},
        main_{optimiser(o.rate, o.iterations, train), optimiser(o.rate, o.iterations, train)},
        run_(b, o.seed) {
    for (optimisers* phase : {&warm_up_, &main_}) {
      phase->selector.prepare(b, selector_);
      phase->reader.prepare(b, reader_);
    }
  }

  /// Rows that the models have gone through, padding included, since the last call; a list that was drawn twice counts
  /// twice.
  [[nodiscard]] std::int64_t take_tokens() { return std::exchange(tokens_, 0); }

  /// Supervised: the selector learns to choose the gold documents, the reader to answer from them. True if it is done,
  /// false if a callback stopped it.
  template <class... Callbacks>
  bool warm_up(Callbacks&... callbacks) {
    return dro::training_loop(
        source(backend_, annotated_, style_), loop(options_.warm_up), warm_up_position_,
        [&](const batch& x, const piece& p) { step_warm_up(x, p); }, [] { return 0; }, callbacks...);
  }

  /// Trains by the method until all iterations are done (true) or a callback stops (false). Each step takes annotated
  /// questions along, as EM does where some of the latent variables are known (Nigam et al. 2000): what warm-up taught
  /// outlasts the noise in the weights of a reader that knows little yet.
  template <class... Callbacks>
  bool train(Callbacks&... callbacks) {
    const source questions(backend_, train_, style_);
    const auto em = [&](auto&& selector_optimiser, auto&& reader_optimiser) {
      list_counter counter{this};
      return dro::em(backend_, selector_, reader_, questions, dro::evidence<>{}, selector_optimiser, reader_optimiser,
                     {.loop = loop(options_.iterations), .draw = options_.draw}, run_, counter, callbacks...);
    };
    const auto steps = [&](auto&& step) {
      return dro::training_loop(
          questions, loop(options_.iterations), run_.position, step, [&] { return run_.totals.take(backend_); },
          callbacks...);
    };
    switch (method_.id) {
      case method_id::dro:
        return em(supervised{this, &main_.selector}, supervised{this, &main_.reader});
      case method_id::selector_frozen:
        return em(dro::frozen{}, supervised{this, &main_.reader});
      case method_id::reader_frozen:
        return em(supervised{this, &main_.selector}, dro::frozen{});
      case method_id::rag_sequence:
        return steps([&](const batch& x, const piece& p) { step_rag_sequence(x, p); });
      case method_id::emdr2:
        return steps([&](const batch& x, const piece& p) { step_emdr2(x, p); });
      case method_id::replug:
        return steps([&](const batch& x, const piece& p) { step_replug(x, p); });
      case method_id::retriever_order:
        return steps([&](const batch& x, const piece& p) { read_together(x, p, choose(x)); });
    }
    return true;
  }

  /// The list of K documents that the trained models read for each question: the selector's greedy one, the K of
  /// highest score, or the retriever's first K.
  [[nodiscard]] draws choose(const batch& x) {
    if (method_.id == method_id::retriever_order) {
      return one_list_each(x, [&](dro::index_t q) { return x[q].retrieved; });
    }
    if (!method_.one_by_one) {
      // So low a temperature that noise decides between equal scores alone.
      return selector_.draw(backend_, x, {1, options_.draw.select}, {options_.seed, nullptr}, {.temperature = 1e-4});
    }
    return best_of(x, judge_.scores(backend_, selector_.model(), x));
  }

  /// Answers of greedy decoding from what `choose` chose.
  [[nodiscard]] std::vector<std::vector<token_t>> answer(const batch& x, const draws& lists,
                                                         dro::index_t most_tokens) const {
    std::vector<std::vector<token_t>> texts;
    for (auto& found : reader_.answers(backend_, x, lists, {.beam = 1, .max_tokens = most_tokens})) {
      texts.push_back(found.empty() ? std::vector<token_t>{} : std::move(found.front().tokens));
    }
    return texts;
  }

  /// Calls f(name, span) for everything but the models' weights that a run needs to go on.
  template <class F>
  void for_each_state(F&& f) {
    const auto memory = [&](const std::string& name, auto& optimizer) {
      optimizer.for_each_state([&](const std::string& part, auto& m) {
        f(name + "." + part, std::span(m.data(), static_cast<std::size_t>(m.size())));
      });
    };
    memory("warm_up.selector", warm_up_.selector);
    memory("warm_up.reader", warm_up_.reader);
    memory("selector", main_.selector);
    memory("reader", main_.reader);
    f("totals", std::span(run_.totals.matrix().data(), static_cast<std::size_t>(run_.totals.matrix().size())));
    const auto place = [&](const char* name, dro::loop_position& position) {
      std::array<dro::index_t, 2> numbers{position.iteration, position.batch};
      f(name, std::span<dro::index_t>(numbers));
      position = {numbers[0], numbers[1]};
    };
    place("warm_up.position", warm_up_position_);
    place("position", run_.position);
    std::array<std::uint32_t, 1> step{dro::read(backend_, run_.random.step())(0, 0)};
    f("random.step", std::span<std::uint32_t>(step));
    run_.random = dro::random_state<backend>(backend_, options_.seed, step[0]);
  }

  /// The models in a folder, each as dro::models::save_transformer writes it. Throws file_error.
  void save_models(const std::filesystem::path& folder) const {
    std::filesystem::create_directories(folder);
    dro::models::save_transformer(backend_, selector_.model(), folder / "selector");
    dro::models::save_transformer(backend_, reader_.model(), folder / "reader");
  }
  /// Throws file_error, data_error.
  void load_models(const std::filesystem::path& folder) {
    dro::models::read_weights(backend_, dro::data::safetensors_set(folder / "selector"), selector_.model());
    dro::models::read_weights(backend_, dro::data::safetensors_set(folder / "reader"), reader_.model());
  }

 private:
  using piece = dro::batch_piece;
  using optimiser_type = dro::adamw<backend, number, dro::cosine_schedule>;
  struct optimisers {
    optimiser_type selector, reader;
  };
  /// An optimiser whose steps take annotated questions along.
  struct supervised {
    trainer* self;
    optimiser_type* optimiser;
    template <class Model>
    void step(backend& b, Model& model) const {
      self->accumulate_annotated(model);
      optimiser->step(b, model);
    }
  };

  /// Weights of deviation 1/√width, so that what a layer adds is as large as what it is given.
  [[nodiscard]] static dro::models::transformer<backend, number> new_model(backend& b,
                                                                           const dro::models::llama_config& config,
                                                                           std::uint64_t seed) {
    dro::models::transformer<backend, number> model(b, config);
    model.initialise(b, seed, 1 / std::sqrt(static_cast<double>(config.hidden_size)));
    return model;
  }

  /// AdamW with a twentieth of the steps to rise and a cosine down to a tenth.
  [[nodiscard]] optimiser_type optimiser(double rate, dro::index_t passes, std::span<const example> questions) const {
    const auto steps = static_cast<std::uint32_t>(passes * batches(questions));
    return optimiser_type(backend_, {.learning_rate = rate, .beta2 = 0.98, .weight_decay = 0.01},
                          {.warmup = steps / 20, .total = steps, .floor = 0.1}, 1.0);
  }

  /// Batches of a pass.
  [[nodiscard]] dro::index_t batches(std::span<const example> questions) const {
    return (static_cast<dro::index_t>(questions.size()) + options_.batch_size - 1) / options_.batch_size;
  }

  [[nodiscard]] dro::loop_options loop(dro::index_t iterations) const {
    return {.iterations = iterations,
            .batch_size = options_.batch_size,
            .seed = options_.seed,
            .piece_size = options_.piece_size};
  }

  /// Counts what dro::em has the models go through.
  struct list_counter {
    trainer* self;
    template <class EStep>
    void on_e_step(backend&, const batch& x, const EStep& e) const {
      self->count_lists(x, e.z);
    }
    void on_batch(const dro::loop_progress&) const {}
  };
  void count_lists(const batch& x, const draws& z) {
    const auto questions = static_cast<dro::index_t>(x.size());
    tokens_ += questions * x.prompt_length() + z.groups().total() * (z.select() - 1 + reading_length(x, z.select()));
  }
  void count_single_documents(const batch& x) {
    const dro::index_t documents = static_cast<dro::index_t>(x.size()) * x.most_documents();
    tokens_ += documents * (x.heads().cols() + x.texts().cols() + 2 + reading_length(x, 1));
  }
  [[nodiscard]] static dro::index_t reading_length(const batch& x, dro::index_t select) {
    return x.heads().cols() + select * x.texts().cols() + x.answers().cols();
  }

  /// `list(q)`, cut or filled up to K places, for each question.
  template <class List>
  [[nodiscard]] draws one_list_each(const batch& x, List&& list) const {
    const auto count = static_cast<dro::index_t>(x.size());
    auto rankings = backend_.make<dro::document_t>(count, options_.draw.select);
    for (dro::index_t q = 0; q < count; ++q) {
      const std::vector<dro::document_t> documents = list(q);
      for (dro::index_t t = 0; t < options_.draw.select; ++t) {
        const auto at = static_cast<std::size_t>(t);
        rankings(q, t) = at < documents.size() ? documents[at] : dro::no_document;
      }
    }
    return {backend_, std::move(rankings), dro::make_filled<number>(backend_, count, 1, 0),
            dro::grouping::uniform(count, 1)};
  }

  /// Documents by falling score.
  [[nodiscard]] draws best_of(const batch& x, const matrix& scores) const {
    return one_list_each(x, [&](dro::index_t q) {
      std::vector<dro::document_t> order(x[q].tokens.documents.size());
      std::iota(order.begin(), order.end(), dro::document_t{0});
      std::sort(order.begin(), order.end(),
                [&](auto a, auto c) { return scores(q, a) != scores(q, c) ? scores(q, a) > scores(q, c) : a < c; });
      return order;
    });
  }

  /// Every document of every question alone; places beyond a question's own documents are empty.
  [[nodiscard]] draws single_documents(const batch& x) const {
    const auto count = static_cast<dro::index_t>(x.size());
    const dro::index_t most = x.most_documents();
    auto rankings = backend_.make<dro::document_t>(count * most, 1);
    for (dro::index_t q = 0; q < count; ++q) {
      const auto own = static_cast<dro::index_t>(x[q].tokens.documents.size());
      for (dro::index_t j = 0; j < most; ++j) {
        rankings(q * most + j, 0) = j < own ? static_cast<dro::document_t>(j) : dro::no_document;
      }
    }
    return {backend_, std::move(rankings), dro::make_filled<number>(backend_, count * most, 1, 0),
            dro::grouping::uniform(count, most)};
  }

  [[nodiscard]] matrix equal_shares(const batch& x, dro::index_t questions) const {
    return dro::make_filled<number>(backend_, static_cast<dro::index_t>(x.size()), 1,
                                    number(1) / static_cast<number>(questions));
  }
  /// Turns what was divided by the number of its rows, one a question, into what is divided by `questions`.
  static void share(matrix& gradient, dro::index_t questions) {
    gradient *= static_cast<number>(gradient.rows()) / static_cast<number>(questions);
  }
  /// The models move when the last piece of a batch has added its gradient.
  template <class Optimiser, class Model>
  void step(Optimiser&& optimiser, Model& model, const piece& p) {
    if (p.is_last()) optimiser.step(backend_, model);
  }

  /// Adds the supervised gradient of the annotated questions whose turn it is, each of which counts as much as a
  /// training question. Their passes go on from those of warm-up, and which are next follows from where the run stands.
  /// Nothing where nobody annotated: what the retriever found is for warm-up alone, a beginning to depart from.
  template <class Model>
  void accumulate_annotated(Model& model) {
    if (options_.annotated_batch == 0 || annotated_.empty() || annotated_.front().gold.empty()) return;
    const auto count = static_cast<dro::index_t>(annotated_.size());
    const dro::index_t steps = run_.position.iteration * batches(train_) + run_.position.batch;
    std::vector<dro::index_t> order, positions;
    for (dro::index_t i = 0; i < options_.annotated_batch; ++i) {
      const dro::index_t place = steps * options_.annotated_batch + i;
      if (i == 0 || place % count == 0) {
        order = dro::shuffled_order(count, options_.seed, options_.warm_up + place / count);
      }
      positions.push_back(order[static_cast<std::size_t>(place % count)]);
    }
    accumulate_supervised(batch(backend_, annotated_, positions, style_), model, options_.batch_size);
  }

  void step_warm_up(const batch& x, const piece& p) {
    if (method_.id != method_id::retriever_order) {
      accumulate_supervised(x, selector_, p.batch_size);
      step(warm_up_.selector, selector_, p);
    }
    accumulate_supervised(x, reader_, p.batch_size);
    step(warm_up_.reader, reader_, p);
  }

  /// Adds Σ_q ∇ log p(z_q|x_q) / questions, z_q the list that `shown` gives; of a selector that judges documents one by
  /// one, log p is the mean over those of the list.
  void accumulate_supervised(const batch& x, selector_type& selector, dro::index_t questions) {
    if (!method_.one_by_one) {
      selector.accumulate_gradient(backend_, x, shown(x), equal_shares(x, questions));
      return;
    }
    // The target is uniform over the documents shown: softmax of a preference of 0 for these and −∞ for all others.
    matrix preference = dro::make_filled<number>(backend_, static_cast<dro::index_t>(x.size()), x.most_documents(),
                                                 -std::numeric_limits<number>::infinity());
    for (dro::index_t q = 0; q < preference.rows(); ++q) {
      for (const dro::document_t j : x[q].shown(options_.draw.select)) {
        if (j != dro::no_document) preference(q, j) = 0;
      }
    }
    accumulate_preference(x, judge_.scores(backend_, selector.model(), x), preference, questions);
  }
  /// Adds Σ_q ∇ log p(y_q|x_q,d_{z_q}) / questions.
  void accumulate_supervised(const batch& x, reader_type& reader, dro::index_t questions) {
    reader.accumulate_gradient(backend_, x, shown(x), equal_shares(x, questions));
  }
  [[nodiscard]] draws shown(const batch& x) const {
    return one_list_each(x, [&](dro::index_t q) { return x[q].shown(options_.draw.select); });
  }

  /// Adds −Σ_q ∇ KL(softmax(preference) ‖ softmax(scores)) / questions to the selector's gradient.
  void accumulate_preference(const batch& x, const matrix& scores, const matrix& preference, dro::index_t questions) {
    matrix d_scores = backend_.make<number>(scores.rows(), scores.cols());
    dro::replug_gradient(backend_, std::as_const(backend_).view(scores), std::as_const(backend_).view(preference),
                         backend_.view(d_scores));
    share(d_scores, questions);
    judge_.accumulate_gradient(backend_, selector_.model(), x, d_scores);
  }

  /// A step of maximum likelihood of the reader on one list a question.
  void read_together(const batch& x, const piece& p, const draws& z) {
    const matrix log_likelihood = reader_.log_likelihood(backend_, x, z);
    const auto weights = dro::importance_weights(backend_, dro::on_policy(backend_, log_likelihood, z.groups()));
    run_.totals.add(backend_, weights, weights.status, z.groups());
    reader_.accumulate_gradient(backend_, x, z, equal_shares(x, p.batch_size));
    step(supervised{this, &main_.reader}, reader_, p);
    tokens_ += z.groups().total() * reading_length(x, z.select());
  }

  /// What the models say of single documents: s_j and ℓ_j, [questions × documents].
  struct single_scores {
    draws z;
    matrix scores, log_likelihood;
  };
  [[nodiscard]] single_scores score_single_documents(const batch& x) {
    draws z = single_documents(x);
    matrix scores = judge_.scores(backend_, selector_.model(), x);
    matrix log_likelihood = reader_.log_likelihood(backend_, x, z);
    log_likelihood.resize(scores.rows(), scores.cols());  // rows one after the other: the same numbers in another shape
    count_single_documents(x);
    return {std::move(z), std::move(scores), std::move(log_likelihood)};
  }

  struct marginal_gradient {
    matrix d_scores, responsibility;
  };
  [[nodiscard]] marginal_gradient differentiate(const single_scores& s, const piece& p) {
    marginal_gradient g{backend_.make<number>(s.scores.rows(), s.scores.cols()),
                        backend_.make<number>(s.scores.rows(), s.scores.cols())};
    dro::rag_sequence_gradient(backend_, std::as_const(backend_).view(s.scores),
                               std::as_const(backend_).view(s.log_likelihood), backend_.view(g.d_scores),
                               backend_.view(g.responsibility));
    share(g.d_scores, p.batch_size);
    share(g.responsibility, p.batch_size);
    return g;
  }

  void step_selector(const batch& x, const piece& p, const matrix& d_scores) {
    judge_.accumulate_gradient(backend_, selector_.model(), x, d_scores);
    step(supervised{this, &main_.selector}, selector_, p);
  }

  void step_rag_sequence(const batch& x, const piece& p) {
    const single_scores s = score_single_documents(x);
    const marginal_gradient g = differentiate(s, p);
    reader_.accumulate_gradient(backend_, x, s.z, g.responsibility);
    step_selector(x, p, g.d_scores);
    step(supervised{this, &main_.reader}, reader_, p);
  }

  void step_emdr2(const batch& x, const piece& p) {
    const single_scores s = score_single_documents(x);
    const marginal_gradient g = differentiate(s, p);
    step_selector(x, p, g.d_scores);
    read_together(x, p, best_of(x, s.scores));
  }

  void step_replug(const batch& x, const piece& p) {
    const single_scores s = score_single_documents(x);
    accumulate_preference(x, s.scores, s.log_likelihood, p.batch_size);
    step(supervised{this, &main_.selector}, selector_, p);
    read_together(x, p, best_of(x, s.scores));
  }

  backend& backend_;
  method method_;
  training_options options_;
  dro::models::prompt_style style_;
  std::span<const example> annotated_, train_;
  selector_type selector_;
  reader_type reader_;
  one_by_one judge_;
  optimisers warm_up_, main_;
  dro::loop_position warm_up_position_;
  dro::em_run<backend> run_;
  std::int64_t tokens_ = 0;
};

}  // namespace generative

#endif
