// SPDX-License-Identifier: Apache-2.0
// Trains the same two models with a fixed number of rankings for each question and with the adaptive E-step, which
// spends as many where earlier iterations showed that they matter, and compares what they learned and what they cost.
//
//     adaptive_e_step                                                  the questions that ship with the project
//     adaptive_e_step --train mine.jsonl.gz --dev dev.jsonl.gz --samples 2,4,8 --seeds 5
//
// Calls are lists of documents that the reader scored (each set of a question once a step), a question and iteration.
// Where draws repeat, equal numbers of draws are not equal numbers of calls: --draws gives the adaptive E-step's budget
// in units of the fixed one's, so that a number with equal calls can be found.

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include <dro/dro.hpp>
#include <dro/em/allocation.hpp>
#include <dro/error.hpp>
#include <dro/models/question_models.hpp>
#include <dro/text/answer_metrics.hpp>

#include "program.hpp"
#include "qa/evaluation.hpp"
#include "qa/options.hpp"
#include "qa/question_set.hpp"
#include "qa/report.hpp"
#include "qa/table.hpp"
#include "qa/trainer.hpp"

namespace {

/// The reader that comes with the library, and how often it was asked for a log-likelihood.
class counted_reader {
 public:
  using workspace = dro::models::extractive_reader::workspace;
  static constexpr bool order_free = dro::models::extractive_reader::order_free;

  counted_reader(dro::models::extractive_reader reader, std::atomic<std::int64_t>& calls)
      : reader_(std::move(reader)), calls_(&calls) {}

  [[nodiscard]] double log_likelihood(const dro::models::reader_question& question, std::span<const dro::document_t> z,
                                      workspace& space) const {
    calls_->fetch_add(1, std::memory_order_relaxed);
    return reader_.log_likelihood(question, z, space);
  }
  void accumulate_gradient(const dro::models::reader_question& question, std::span<const dro::document_t> z,
                           double coefficient, dro::sparse_gradient& gradient, workspace& space) const {
    reader_.accumulate_gradient(question, z, coefficient, gradient, space);
  }
  [[nodiscard]] std::span<double> parameters() { return reader_.parameters(); }
  [[nodiscard]] const dro::models::extractive_reader& reader() const { return reader_; }

 private:
  dro::models::extractive_reader reader_;
  std::atomic<std::int64_t>* calls_;
};

struct settings {
  qa::options data;
  std::vector<dro::index_t> samples = {4};
  std::vector<double> draws = {1, 0.75};
  dro::allocation_options allocation = {};
};

/// One way of training, over all seeds.
struct arm {
  dro::index_t samples = 0;  ///< m
  double draws = 0;          ///< of the adaptive E-step, in units of m; 0: m for every question

  std::vector<double> f1 = {}, all_gold = {}, calls = {};    ///< [seeds]
  std::vector<double> question_f1 = {}, question_gold = {};  ///< [dev questions], means over seeds
};

std::string name(const arm& a) {
  return a.draws == 0 ? "fixed" : "adaptive, " + qa::fixed(a.draws * static_cast<double>(a.samples), 2);
}

/// The questions, prepared, and the runs over them.
class laboratory {
 public:
  laboratory(const settings& s, qa::question_set data)
      : settings_(s),
        data_(std::move(data)),
        backend_(s.data.threads),
        features_(dro::models::question_features::fit(data_.train)),
        train_(features_.prepare(backend_, data_.train)),
        dev_(features_.prepare(backend_, data_.dev)) {}

  [[nodiscard]] const qa::question_set& data() const { return data_; }

  void run(arm& a) {
    for (dro::index_t s = 0; s < settings_.data.seeds; ++s) {
      run(a, settings_.data.seed + static_cast<std::uint64_t>(s));
      std::fprintf(stderr, "m = %lld, %s, seed %lld: F1 %.2f, all gold %.2f, %.3f calls\n",
                   static_cast<long long>(a.samples), name(a).c_str(), static_cast<long long>(settings_.data.seed) + s,
                   a.f1.back(), a.all_gold.back(), a.calls.back());
    }
  }

 private:
  void run(arm& a, std::uint64_t seed) {
    std::atomic<std::int64_t> calls{0};
    const qa::hyper_parameters hyper;
    const dro::models::feature_selector untrained(qa::selector_for(qa::find_method("dro")));
    dro::models::question_selector selector(untrained);
    dro::host_generator<counted_reader> reader(counted_reader(dro::models::extractive_reader(features_.reader), calls));
    dro::adagrad<qa::backend> selector_optimizer(
        backend_, {.learning_rate = hyper.selector_rate, .weight_decay = hyper.selector_decay});
    dro::adagrad<qa::backend> reader_optimizer(
        backend_, {.learning_rate = hyper.reader_rate, .weight_decay = hyper.reader_decay});
    dro::em_run<qa::backend> run(backend_, seed);
    dro::allocation_options options = settings_.allocation;
    options.samples = a.draws * static_cast<double>(a.samples);
    options.most = 4 * a.samples;
    const dro::item_source<dro::models::prepared_question> source{
        std::span<const dro::models::prepared_question>(train_)};
    const auto train = [&](auto&& draws_from) {
      dro::em(backend_, selector, reader, draws_from, source, dro::evidence<>{}, selector_optimizer, reader_optimizer,
              {.loop = {.iterations = settings_.data.iterations, .batch_size = hyper.batch_size, .seed = seed},
               .draw = {a.samples, data_.select}},
              run);
    };
    if (a.draws > 0) {
      train(dro::sample_allocation<qa::backend>(backend_, static_cast<dro::index_t>(train_.size()), options));
    } else {
      train(dro::selector_draws{});
    }
    a.calls.push_back(static_cast<double>(calls) /
                      (static_cast<double>(train_.size()) * static_cast<double>(settings_.data.iterations)));
    evaluate(a, selector.scorer(), reader.scorer().reader());
  }

  /// Adds the scores of the trained models on the dev questions; all gold is asked of those with annotated documents.
  void evaluate(arm& a, const dro::models::feature_selector& selector, const dro::models::extractive_reader& reader) {
    std::vector<double> f1(dev_.size());
    std::vector<std::optional<bool>> gold(dev_.size());
    backend_.run(static_cast<dro::index_t>(dev_.size()), [&](auto&, dro::index_t i) {
      const auto at = static_cast<std::size_t>(i);
      const dro::data::question& question = data_.dev[at];
      dro::models::extractive_reader::workspace workspace;
      const auto list = qa::choose(qa::find_method("dro"), selector, dev_[at], data_.select);
      f1[at] = 100 * dro::text::f1(reader.answer(dev_[at], list, workspace), question.answers);
      if (question.gold_missing) {
        gold[at] = dro::text::all_gold_at_k(list, question.supporting, list.size(),
                                            static_cast<std::size_t>(*question.gold_missing));
      }
    });
    std::vector<double> annotated;
    for (const auto& found : gold) {
      if (found) annotated.push_back(*found ? 100 : 0);
    }
    a.f1.push_back(qa::summarise(f1).mean);
    a.all_gold.push_back(qa::summarise(annotated).mean);
    accumulate(a.question_f1, f1);
    accumulate(a.question_gold, annotated);
  }

  /// Adds one seed's share to a mean over seeds.
  void accumulate(std::vector<double>& mean, const std::vector<double>& values) const {
    mean.resize(values.size(), 0.0);
    for (std::size_t i = 0; i < values.size(); ++i) {
      mean[i] += values[i] / static_cast<double>(settings_.data.seeds);
    }
  }

  settings settings_;
  qa::question_set data_;
  qa::backend backend_;
  dro::models::question_features features_;
  std::vector<dro::models::prepared_question> train_;
  std::vector<dro::models::prepared_question> dev_;
};

qa::table::cell cell(const std::vector<double>& values, int decimals) {
  const qa::mean_and_error m = qa::summarise(values);
  return {m.mean, decimals, std::isfinite(m.error) ? std::optional(m.error) : std::nullopt};
}

std::vector<double> difference(std::vector<double> a, const std::vector<double>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return a;
}

int run(const settings& s) {
  qa::check(s.data);
  laboratory lab(s, qa::load(s.data, DRO_EXAMPLE_DATA));
  using side = qa::table::side;
  qa::table table({{"m"},
                   {"E-step, draws"},
                   {"calls", side::right},
                   {"F1 %", side::right},
                   {"all-gold@K %", side::right},
                   {"F1 gain", side::right},
                   {"over seeds", side::right},
                   {"all-gold gain", side::right},
                   {"over seeds", side::right}});
  for (const dro::index_t m : s.samples) {
    arm fixed{.samples = m};
    lab.run(fixed);
    const auto number = std::to_string(m);
    table.add_row(
        {number, name(fixed), cell(fixed.calls, 3), cell(fixed.f1, 2), cell(fixed.all_gold, 2), "", "", "", ""});
    for (const double draws : s.draws) {
      arm adaptive{.samples = m, .draws = draws};
      lab.run(adaptive);
      table.add_row({number, name(adaptive), cell(adaptive.calls, 3), cell(adaptive.f1, 2), cell(adaptive.all_gold, 2),
                     cell(difference(adaptive.question_f1, fixed.question_f1), 2),
                     cell(difference(adaptive.f1, fixed.f1), 2),
                     cell(difference(adaptive.question_gold, fixed.question_gold), 2),
                     cell(difference(adaptive.all_gold, fixed.all_gold), 2)});
    }
  }
  std::printf("%s\n%zu training and %zu dev questions, K = %lld, %lld iterations, seeds %llu to %llu.\n",
              table.render().c_str(), lab.data().train.size(), lab.data().dev.size(),
              static_cast<long long>(lab.data().select), static_cast<long long>(s.data.iterations),
              static_cast<unsigned long long>(s.data.seed),
              static_cast<unsigned long long>(s.data.seed) + static_cast<unsigned long long>(s.data.seeds - 1));
  std::printf(
      "Means over seeds ± standard error; gains ± the standard error paired over dev questions, then over seeds.\n");
  program::finish_standard_output();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  s.data.iterations = 3;
  s.allocation.least = 1;  // with a floor of 2, m = 2 would leave nothing to share out
  CLI::App app("Compares the adaptive E-step with a fixed number of samples.", "adaptive_e_step");
  app.add_option("--train", s.data.train, "questions to train on; the shipped ones if none");
  app.add_option("--dev", s.data.dev, "questions to report on; every fifth training question if only --train is given");
  app.add_option("--select", s.data.select, "documents chosen for each question (K)");
  app.add_option("--samples", s.samples, "rankings drawn for each question and step (m), several")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--draws", s.draws, "draws of the adaptive E-step, in units of m, several")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--exploration", s.allocation.exploration, "see dro::allocation_options")->capture_default_str();
  app.add_option("--prior", s.allocation.prior, "see dro::allocation_options")->capture_default_str();
  app.add_option("--memory", s.allocation.memory, "see dro::allocation_options")->capture_default_str();
  app.add_option("--least", s.allocation.least, "fewest draws of a question")->capture_default_str();
  app.add_option("--iterations", s.data.iterations, "passes over the training questions")->capture_default_str();
  app.add_option("--seed", s.data.seed, "of the first run")->check(program::is_natural)->capture_default_str();
  app.add_option("--seeds", s.data.seeds, "runs")->capture_default_str();
  app.add_option("--threads", s.data.threads, "threads; 0: all")->capture_default_str();
  return program::start(app, argc, argv, [&] { return run(s); });
}
