// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_QA_EVALUATION_HPP
#define DRO_EXAMPLES_QA_EVALUATION_HPP

/// \file
/// How well a trained pair of models chooses and answers.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <dro/dro.hpp>
#include <dro/models/question_models.hpp>
#include <dro/text/answer_metrics.hpp>

#include "trainer.hpp"

namespace qa {

/// What was chosen and answered for one question.
struct answered_question {
  std::vector<dro::document_t> ranking;
  std::string answer;
  double em = 0;
  double f1 = 0;
  std::optional<double> recall;  ///< none where no gold documents are annotated
  std::optional<bool> all_gold;
};

/// Means over questions. Selection is by `choose`; the rest is an E-step on
/// these questions with the selector as the proposal.
struct evaluation {
  double em = 0;
  double f1 = 0;
  double recall_at_k = 0;    ///< over questions with annotated gold documents; NaN if there are none
  double all_gold_at_k = 0;  ///< likewise
  double evidence = 0;
  double elbo = 0;
  double ess = 0;
  double weight_variance = 0;
  double no_hit_share = 0;   ///< questions no sample of which contains an accepted answer
  double all_hit_share = 0;  ///< questions every sample of which does
  std::int64_t flagged = 0;
  std::vector<answered_question> questions;
};

/// Documents a trained method reads: the most probable ranking that a beam of ten finds, or all of them.
[[nodiscard]] inline std::vector<dro::document_t> choose(const method& m, const dro::models::feature_selector& scorer,
                                                         const dro::models::prepared_question& question,
                                                         dro::index_t select) {
  if (m.id == method_id::read_all) return dro::greedy_ranking(scorer, question, scorer.document_count(question));
  auto beam = dro::beam_search(scorer, question, select, 10);
  // Without a possible ranking (scores that are not numbers) nothing is read.
  return beam.empty() ? std::vector<dro::document_t>{} : std::move(beam.front().ranking);
}

/// Whether the reader could say an accepted answer after reading `list`. Yes and no it can always say.
[[nodiscard]] inline bool has_answer(const dro::models::reader_question& question,
                                     std::span<const dro::document_t> list) {
  const auto among = [&](std::size_t part) {
    const auto* begin = question.mentions.data() + question.mention_offsets[part];
    const auto* end = question.mentions.data() + question.mention_offsets[part + 1];
    return std::any_of(begin, end, [](const auto& mention) { return mention.accepted; });
  };
  return among(question.documents) ||
         std::any_of(list.begin(), list.end(), [&](auto j) { return among(static_cast<std::size_t>(j)); });
}

/// Evaluates on `prepared`, made from `questions`. Runs on the backend's threads; draws use a key of their own, so an
/// evaluation never changes training.
[[nodiscard]] inline evaluation evaluate(backend& b, const trainer& t, std::span<const dro::data::question> questions,
                                         std::span<const dro::models::prepared_question> prepared,
                                         const dro::draw_options& draw) {
  evaluation e;
  e.questions.resize(questions.size());
  b.run(static_cast<dro::index_t>(questions.size()), [&](auto&, dro::index_t i) {
    const auto at = static_cast<std::size_t>(i);
    dro::models::extractive_reader::workspace workspace;
    answered_question& a = e.questions[at];
    a.ranking = choose(t.trained_by(), t.selector().scorer(), prepared[at], draw.select);
    a.answer = t.reader().scorer().answer(prepared[at], a.ranking, workspace);
    a.em = dro::text::exact_match(a.answer, questions[at].answers) ? 1 : 0;
    a.f1 = dro::text::f1(a.answer, questions[at].answers);
    // Without selection there is nothing to measure of it.
    if (questions[at].gold_missing && t.trained_by().id != method_id::read_all) {
      const auto k = static_cast<std::size_t>(draw.select);
      const auto missing = static_cast<std::size_t>(*questions[at].gold_missing);
      a.recall = dro::text::recall_at_k(a.ranking, questions[at].supporting, k, missing);
      a.all_gold = dro::text::all_gold_at_k(a.ranking, questions[at].supporting, k, missing);
    }
  });
  double annotated = 0;
  for (const answered_question& a : e.questions) {
    e.em += a.em;
    e.f1 += a.f1;
    if (!a.recall) continue;
    annotated += 1;
    e.recall_at_k += *a.recall;
    e.all_gold_at_k += a.all_gold.value_or(false) ? 1 : 0;
  }
  const auto n = static_cast<double>(questions.size());
  e.em /= n;
  e.f1 /= n;
  e.recall_at_k = annotated > 0 ? e.recall_at_k / annotated : std::numeric_limits<double>::quiet_NaN();
  e.all_gold_at_k = annotated > 0 ? e.all_gold_at_k / annotated : std::numeric_limits<double>::quiet_NaN();

  // An E-step over all questions at once, with the draws of a fixed seed.
  constexpr std::uint64_t evaluation_seed = 0x65766C;
  dro::random_state<backend> random(b, evaluation_seed);
  const batch all(prepared);
  const auto step = dro::e_step(b, t.selector(), t.reader(), all, draw, random);
  dro::step_totals<backend> totals(b);
  totals.add(b, step.weights, step.weights.status, step.z.groups());
  const dro::step_summary s = totals.take(b);
  e.evidence = s.evidence;
  e.elbo = s.elbo;
  e.ess = s.effective_sample_size;
  e.weight_variance = s.weight_variance;
  e.flagged = s.flagged();
  std::vector<char> none(questions.size());
  std::vector<char> every(questions.size());
  b.run(static_cast<dro::index_t>(questions.size()), [&](auto&, dro::index_t q) {
    dro::index_t hits = 0;
    for (dro::index_t i = 0; i < draw.samples; ++i) {
      const dro::document_t* list = step.z.rankings().data() + (q * draw.samples + i) * draw.select;
      hits += has_answer(all[q], {list, static_cast<std::size_t>(draw.select)}) ? 1 : 0;
    }
    none[static_cast<std::size_t>(q)] = hits == 0;
    every[static_cast<std::size_t>(q)] = hits == draw.samples;
  });
  e.no_hit_share = static_cast<double>(std::count(none.begin(), none.end(), 1)) / n;
  e.all_hit_share = static_cast<double>(std::count(every.begin(), every.end(), 1)) / n;
  return e;
}

}  // namespace qa

#endif
