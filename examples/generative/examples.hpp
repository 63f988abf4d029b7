// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_GENERATIVE_EXAMPLES_HPP
#define DRO_EXAMPLES_GENERATIVE_EXAMPLES_HPP

/// \file
/// Questions as tokens, with what is known of them beside, and batches of them.

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <dro/backend/eigen.hpp>
#include <dro/config.hpp>
#include <dro/data/question.hpp>
#include <dro/models/retrieval_batch.hpp>
#include <dro/text/bm25.hpp>

#include "tokens.hpp"

namespace generative {

/// What everything in this program runs on, and the numbers in it.
using backend = dro::eigen_backend<Eigen::RowMajor>;
using number = float;

/// One question.
struct example {
  dro::models::tokenised_question tokens;
  std::vector<dro::document_t> retrieved;  ///< all its documents in the order of BM25
  std::vector<dro::document_t> gold;  ///< annotated documents, in the order in which to read them where it is known
  std::vector<std::string> answers;

  /// What warm-up shows: K documents, the gold ones first and then the retriever's; `no_document` where there are
  /// fewer.
  [[nodiscard]] std::vector<dro::document_t> shown(dro::index_t select) const {
    std::vector<dro::document_t> list = gold;
    for (const dro::document_t j : retrieved) {
      if (std::find(gold.begin(), gold.end(), j) == gold.end()) list.push_back(j);
    }
    list.resize(static_cast<std::size_t>(select), dro::no_document);
    return list;
  }
};

/// How much of a question's texts is kept, in tokens; the rest is cut off.
struct text_limits {
  std::size_t question = 64;
  std::size_t document = 64;
  std::size_t answer = 16;
};

/// A question as an example. `gold` as in example.
[[nodiscard]] inline example make_example(const tokenizer& tokens, const dro::data::question& q,
                                          std::vector<dro::document_t> gold, const text_limits& limits) {
  const auto encode = [&](const std::string& text, std::size_t most) {
    std::vector<token_t> all = tokens.encode(text);
    if (all.size() > most) all.resize(most);
    return all;
  };
  example x;
  x.tokens.question = encode(q.text, limits.question);
  for (const dro::data::document& d : q.documents) {
    x.tokens.documents.push_back(encode(d.title.empty() ? d.text : d.title + ": " + d.text, limits.document));
  }
  x.tokens.answer = encode(q.answers.front(), limits.answer);
  const std::vector<double> scores = dro::text::bm25_scores(q);
  x.retrieved = dro::text::retriever_order(scores);
  x.gold = std::move(gold);
  x.answers = q.answers;
  return x;
}

/// Some of the examples, in the backend's memory, too. The examples outlive it.
class batch : public dro::models::retrieval_batch<backend> {
 public:
  batch(backend& b, std::span<const example> all, std::span<const dro::index_t> positions,
        const dro::models::prompt_style& style)
      : retrieval_batch(b, tokens_of(all, positions), style) {
    for (const dro::index_t i : positions) examples_.push_back(&all[static_cast<std::size_t>(i)]);
  }

  [[nodiscard]] const example& operator[](dro::index_t i) const { return *examples_[static_cast<std::size_t>(i)]; }

 private:
  [[nodiscard]] static std::vector<dro::models::tokenised_question> tokens_of(std::span<const example> all,
                                                                              std::span<const dro::index_t> positions) {
    std::vector<dro::models::tokenised_question> some;
    for (const dro::index_t i : positions) some.push_back(all[static_cast<std::size_t>(i)].tokens);
    return some;
  }

  std::vector<const example*> examples_;
};

/// Examples as a source of batches for dro::em.
class source {
 public:
  source(backend& b, std::span<const example> all, const dro::models::prompt_style& style)
      : backend_(&b), all_(all), style_(&style) {}

  [[nodiscard]] std::size_t size() const { return all_.size(); }
  [[nodiscard]] generative::batch batch(std::span<const dro::index_t> positions) const {
    return {*backend_, all_, positions, *style_};
  }

 private:
  backend* backend_;
  std::span<const example> all_;
  const dro::models::prompt_style* style_;
};

}  // namespace generative

#endif
