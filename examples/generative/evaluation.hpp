// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_GENERATIVE_EVALUATION_HPP
#define DRO_EXAMPLES_GENERATIVE_EVALUATION_HPP

/// \file
/// How well a trained pair of models chooses and answers.

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <dro/backend/host.hpp>
#include <dro/text/answer_metrics.hpp>

#include "examples.hpp"
#include "tokens.hpp"
#include "trainer.hpp"

namespace generative {

/// Means over questions; those of the selection over the ones with gold documents, NaN where there are none.
struct evaluation {
  double em = 0;
  double f1 = 0;
  double recall_at_k = 0;
  double all_gold_at_k = 0;
};

/// Chooses greedily and answers greedily. Training is not touched.
[[nodiscard]] inline evaluation evaluate(backend& b, trainer& t, std::span<const example> examples,
                                         const dro::models::prompt_style& style, const tokenizer& tokens,
                                         dro::index_t most_tokens) {
  constexpr dro::index_t at_once = 64;
  const auto count = static_cast<dro::index_t>(examples.size());
  evaluation e;
  dro::index_t annotated = 0;
  for (dro::index_t first = 0; first < count; first += at_once) {
    std::vector<dro::index_t> positions(static_cast<std::size_t>(std::min(at_once, count - first)));
    std::iota(positions.begin(), positions.end(), first);
    const batch x(b, examples, positions, style);
    const auto lists = t.choose(x);
    const auto rankings = dro::read(b, lists.rankings());
    const auto answers = t.answer(x, lists, most_tokens);
    for (dro::index_t q = 0; q < rankings.rows(); ++q) {
      const std::string answer = tokens.decode(answers[static_cast<std::size_t>(q)]);
      e.em += dro::text::exact_match(answer, x[q].answers) ? 1 : 0;
      e.f1 += dro::text::f1(answer, x[q].answers);
      const std::span<const dro::document_t> list(&rankings(q, 0), static_cast<std::size_t>(rankings.cols()));
      const auto recall = dro::text::recall_at_k(list, x[q].gold, list.size());
      if (!recall) continue;
      ++annotated;
      e.recall_at_k += *recall;
      e.all_gold_at_k += *recall == 1 ? 1 : 0;
    }
  }
  e.em /= static_cast<double>(count);
  e.f1 /= static_cast<double>(count);
  e.recall_at_k /= static_cast<double>(annotated);
  e.all_gold_at_k /= static_cast<double>(annotated);
  return e;
}

}  // namespace generative

#endif
