// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_RETRIEVAL_BATCH_HPP
#define DRO_MODELS_RETRIEVAL_BATCH_HPP

/// \file
/// Questions, their candidate documents and answers as tokens in a backend's memory, in the form in which a generative
/// selector and a generative reader take them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/models/transformer/embedding.hpp>

namespace dro::models {

/// One question as tokens.
struct tokenised_question {
  std::vector<token_t> question;
  std::vector<std::vector<token_t>> documents;
  std::vector<token_t> answer;
};

/// How prompts are put together; both models see the very same ones in sampling and in training.
///
///     selector    begin question identifiers[0] document₀ identifiers[1] document₁ … select
///     reader      begin question document_{z₁} … document_{z_K} answer, to be continued with the answer's tokens and
///     end
struct prompt_style {
  std::vector<token_t> begin;        ///< such as a token that begins every text; may be empty
  std::vector<token_t> identifiers;  ///< one token for each candidate's number, all different
  std::vector<token_t> select;       ///< after the documents: now choose; at least one token
  std::vector<token_t> answer;       ///< after the documents: now answer; at least one token
  token_t end = no_token;            ///< ends an answer
};

/// A batch of questions. `size()` is the number of questions S; with n documents in the longest list, a selector's
/// prompt of at most P tokens, questions of at most Q tokens, documents of at most D and answers, with their end, of at
/// most A:
template <backend B>
class retrieval_batch {
 public:
  /// Copies `questions` to the backend. Throws option_error, naming the question, for a style without the tokens it
  /// needs, a question without documents or with more of them than there are identifiers, an empty answer, and tokens
  /// below 0. That tokens are in a model's vocabulary is looked at by the models.
  retrieval_batch(B& b, const std::vector<tokenised_question>& questions, const prompt_style& style)
      : size_(questions.size()), style_(style) {
    require(questions);
    index_t prompt = 0;
    index_t question = 0;
    index_t document = 1;
    index_t answer = 1;
    const auto longer = [](index_t& longest, std::size_t length) {
      longest = std::max(longest, static_cast<index_t>(length));
    };
    for (const tokenised_question& x : questions) {
      std::size_t selector_prompt = style.begin.size() + x.question.size() + style.select.size();
      for (const auto& d : x.documents) {
        selector_prompt += 1 + d.size();
        longer(document, d.size());
      }
      longer(prompt, selector_prompt);
      longer(question, style.begin.size() + x.question.size());
      longer(most_documents_, x.documents.size());
      longer(answer, x.answer.size() + 1);
    }
    const auto rows = static_cast<index_t>(size_);
    host_matrix<token_t> prompts(rows * prompt, 1);
    host_matrix<std::int32_t> starts(rows, 1), documents(rows, 1);
    host_matrix<token_t> heads(rows, std::max<index_t>(question, 1));
    host_matrix<token_t> texts(rows * most_documents_, document), answers(rows, answer);
    for (host_matrix<token_t>* m : {&prompts, &heads, &texts, &answers}) {
      std::fill_n(m->data(), m->rows() * m->cols(), no_token);
    }
    for (index_t q = 0; q < rows; ++q) {
      const tokenised_question& x = questions[static_cast<std::size_t>(q)];
      std::vector<token_t> head = style.begin;
      head.insert(head.end(), x.question.begin(), x.question.end());
      std::copy(head.begin(), head.end(), &heads(q, 0));
      std::copy(x.answer.begin(), x.answer.end(), &answers(q, 0));
      answers(q, static_cast<index_t>(x.answer.size())) = style.end;
      std::vector<token_t> whole = head;
      for (std::size_t j = 0; j < x.documents.size(); ++j) {
        const auto& text = x.documents[j];
        if (!text.empty())
          std::copy(text.begin(), text.end(), &texts(q * most_documents_ + static_cast<index_t>(j), 0));
        whole.push_back(style.identifiers[j]);
        whole.insert(whole.end(), text.begin(), text.end());
      }
      whole.insert(whole.end(), style.select.begin(), style.select.end());
      const index_t start = prompt - static_cast<index_t>(whole.size());
      std::copy(whole.begin(), whole.end(), &prompts(q * prompt + start, 0));
      starts(q, 0) = static_cast<std::int32_t>(start);
      documents(q, 0) = static_cast<std::int32_t>(x.documents.size());
    }
    prompt_length_ = prompt;
    prompts_ = write(b, prompts);
    starts_ = write(b, starts);
    documents_ = write(b, documents);
    heads_ = write(b, heads);
    texts_ = write(b, texts);
    answers_ = write(b, answers);
    identifiers_ = b.template make<token_t>(most_documents_, 1);
    b.write(style_.identifiers.data(), b.view(identifiers_));
    marker_ = b.template make<token_t>(1, static_cast<index_t>(style_.answer.size()));
    b.write(style_.answer.data(), b.view(marker_));
  }

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] const prompt_style& style() const { return style_; }
  /// n, documents of the question that has most.
  [[nodiscard]] index_t most_documents() const { return most_documents_; }
  /// P.
  [[nodiscard]] index_t prompt_length() const { return prompt_length_; }
  /// The selector's prompts, padded on the left, [S·P × 1].
  [[nodiscard]] const matrix_t<B, token_t>& prompts() const { return prompts_; }
  /// Padding before each prompt, [S × 1].
  [[nodiscard]] const matrix_t<B, std::int32_t>& starts() const { return starts_; }
  /// Documents of each question, [S × 1].
  [[nodiscard]] const matrix_t<B, std::int32_t>& documents() const { return documents_; }
  /// Begin and question, [S × Q]; documents, [S·n × D]; answers with their end, [S × A]: all padded on the right.
  [[nodiscard]] const matrix_t<B, token_t>& heads() const { return heads_; }
  [[nodiscard]] const matrix_t<B, token_t>& texts() const { return texts_; }
  [[nodiscard]] const matrix_t<B, token_t>& answers() const { return answers_; }
  /// The numbers of the n candidates, [n × 1], and what asks a reader to answer, [1 × M]: from the style.
  [[nodiscard]] const matrix_t<B, token_t>& identifiers() const { return identifiers_; }
  [[nodiscard]] const matrix_t<B, token_t>& marker() const { return marker_; }

  /// Throw option_error, naming the question, unless the tokens that a selector or a reader gets to see are below
  /// `vocabulary`.
  void require_selector_tokens(index_t vocabulary) const { require_below(selector_tokens_, vocabulary); }
  void require_reader_tokens(index_t vocabulary) const { require_below(reader_tokens_, vocabulary); }

 private:
  /// The largest of some tokens, and where it stands.
  struct largest_token {
    token_t token = no_token;
    std::string where;
  };

  static void require_below(const largest_token& largest, index_t vocabulary) {
    if (largest.token < vocabulary) return;
    throw option_error(largest.where + ": token " + std::to_string(largest.token) + ", but the model has " +
                       std::to_string(vocabulary) + " tokens");
  }

  void require(const std::vector<tokenised_question>& questions) {
    if (style_.select.empty() || style_.answer.empty() || style_.end < 0) {
      throw option_error("prompt_style: `select` has " + std::to_string(style_.select.size()) + " tokens, `answer` " +
                         std::to_string(style_.answer.size()) + ", and `end` is " + std::to_string(style_.end) +
                         ": expected at least one, at least one, and a token");
    }
    if (style_.identifiers.empty()) throw option_error("prompt_style: no identifiers");
    std::vector<token_t> sorted = style_.identifiers;
    std::sort(sorted.begin(), sorted.end());
    if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
      throw option_error("prompt_style: two identifiers are the same token");
    }
    const auto see = [](largest_token& largest, token_t token, const std::string& where) {
      if (token > largest.token) largest = {token, where};
    };
    constexpr bool by_selector = true;
    constexpr bool by_reader = true;
    const auto require_tokens = [&](const std::vector<token_t>& tokens, const std::string& where, bool selector,
                                    bool reader) {
      for (const token_t token : tokens) {
        if (token < 0) throw option_error(where + ": token " + std::to_string(token));
        if (selector) see(selector_tokens_, token, where);
        if (reader) see(reader_tokens_, token, where);
      }
    };
    require_tokens(style_.begin, "prompt_style: begin", by_selector, by_reader);
    require_tokens(style_.identifiers, "prompt_style: identifiers", by_selector, !by_reader);
    require_tokens(style_.select, "prompt_style: select", by_selector, !by_reader);
    require_tokens(style_.answer, "prompt_style: answer", !by_selector, by_reader);
    see(reader_tokens_, style_.end, "prompt_style: end");
    for (std::size_t q = 0; q < questions.size(); ++q) {
      const std::string where = "question " + std::to_string(q);
      const tokenised_question& x = questions[q];
      if (x.documents.empty() || x.documents.size() > style_.identifiers.size()) {
        throw option_error(where + " has " + std::to_string(x.documents.size()) + " documents, expected 1 to " +
                           std::to_string(style_.identifiers.size()) + ", the number of identifiers");
      }
      if (x.answer.empty()) throw option_error(where + " has an empty answer");
      require_tokens(x.question, where, by_selector, by_reader);
      require_tokens(x.answer, where + ", answer", !by_selector, by_reader);
      for (const auto& d : x.documents) require_tokens(d, where + ", a document", by_selector, by_reader);
    }
  }

  std::size_t size_;
  prompt_style style_;
  largest_token selector_tokens_, reader_tokens_;
  index_t most_documents_ = 1;
  index_t prompt_length_ = 0;
  matrix_t<B, token_t> prompts_, heads_, texts_, answers_, identifiers_, marker_;
  matrix_t<B, std::int32_t> starts_, documents_;
};

}  // namespace dro::models

#endif
