// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_GENERATIVE_ONE_BY_ONE_HPP
#define DRO_EXAMPLES_GENERATIVE_ONE_BY_ONE_HPP

/// \file
/// The selector's network used as methods use theirs that treat documents independently: it is shown the question with
/// one document at a time.

#include <limits>
#include <utility>
#include <vector>

#include <dro/backend/host.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/models/retrieval_batch.hpp>
#include <dro/models/transformer/row_pieces.hpp>
#include <dro/models/transformer/transformer.hpp>

#include "examples.hpp"

namespace generative {

/// s_j = the logit of the first identifier after a prompt of the question and document j alone, which it numbers.
class one_by_one {
 public:
  using network = dro::models::transformer<backend, number>;
  using matrix = dro::matrix_t<backend, number>;

  /// [questions × documents]; −inf beyond a question's own.
  [[nodiscard]] matrix scores(backend& b, const network& model, const batch& x) {
    const prompts p(b, x);
    const auto ends = run(b, model, p, dro::models::transformer_use::score);
    matrix of_prompt = b.make<number>(ends.rows, 1);
    dro::matmul(b, number(1), ends, dro::transposed(says_yes(model.output().weight.value, x)), number(0),
                b.view(of_prompt));
    matrix out = dro::make_filled<number>(b, static_cast<dro::index_t>(x.size()), x.most_documents(),
                                          -std::numeric_limits<number>::infinity());
    for (std::size_t i = 0; i < p.of.size(); ++i) {
      out(p.of[i].first, p.of[i].second) = of_prompt(static_cast<dro::index_t>(i), 0);
    }
    return out;
  }

  /// Adds Σ d_scores(q, j) ∇ s_j.
  void accumulate_gradient(backend& b, network& model, const batch& x, const matrix& d_scores) {
    const prompts p(b, x);
    const auto ends = run(b, model, p, dro::models::transformer_use::train);
    matrix d = b.make<number>(ends.rows, 1);
    for (std::size_t i = 0; i < p.of.size(); ++i) {
      d(static_cast<dro::index_t>(i), 0) = d_scores(p.of[i].first, p.of[i].second);
    }
    const auto d_view = std::as_const(b).view(std::as_const(d));
    const dro::matrix_view<number> d_hidden = model.d_hidden(memory_);
    dro::fill(b, d_hidden, number(0));
    dro::matmul(b, number(1), d_view, says_yes(model.output().weight.value, x), number(0),
                dro::models::ends_of_sequences(d_hidden, p.all.prompt_length()));
    dro::matmul(b, number(1), dro::transposed(d_view), ends, number(1), says_yes(model.output().weight.gradient, x));
    model.accumulate_hidden_gradient(b, p.tokens(b), memory_);
  }

 private:
  /// Every document of every question alone.
  struct prompts {
    prompts(backend& b, const batch& x) : all(b, singles(x), x.style()) {}

    std::vector<std::pair<dro::index_t, dro::index_t>> of;  // question and document
    dro::models::retrieval_batch<backend> all;

    [[nodiscard]] dro::models::token_batch tokens(const backend& b) const {
      const dro::index_t length = all.prompt_length();
      return {b.view(all.prompts()), {length, length, 1, b.view(all.starts())}};
    }

   private:
    [[nodiscard]] std::vector<dro::models::tokenised_question> singles(const batch& x) {
      std::vector<dro::models::tokenised_question> list;
      for (dro::index_t q = 0; q < static_cast<dro::index_t>(x.size()); ++q) {
        const dro::models::tokenised_question& whole = x[q].tokens;
        for (std::size_t j = 0; j < whole.documents.size(); ++j) {
          of.emplace_back(q, static_cast<dro::index_t>(j));
          list.push_back({whole.question, {whole.documents[j]}, whole.answer});
        }
      }
      return list;
    }
  };

  /// The last row of each prompt, [prompts × D].
  [[nodiscard]] dro::matrix_view<const number> run(backend& b, const network& model, const prompts& p,
                                                   dro::models::transformer_use use) {
    const dro::index_t length = p.all.prompt_length();
    memory_.fit(b, model.config(), static_cast<dro::index_t>(p.of.size()), length, use);
    return dro::models::ends_of_sequences(model.hidden(b, p.tokens(b), memory_), length);
  }

  /// The first identifier's row of the output layer or of its gradient, [1 × D].
  [[nodiscard]] static dro::matrix_view<number> says_yes(dro::matrix_view<number> table, const batch& x) {
    table.data += x.style().identifiers.front() * table.row_stride;
    table.rows = 1;
    return table;
  }

  dro::models::transformer_memory<backend, number> memory_;
};

}  // namespace generative

#endif
