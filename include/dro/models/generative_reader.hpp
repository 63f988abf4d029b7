// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_GENERATIVE_READER_HPP
#define DRO_MODELS_GENERATIVE_READER_HPP

/// \file
/// A language model that answers: it reads the question and the chosen documents in their order, and
///
///     log p(y|x,d_z) = Σ_i log p(y_i | y_<i, x, d_{z_1} … d_{z_K}),
///
/// y ending with the token that ends an answer, so that the probabilities of all answers sum to 1.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/models/llama_config.hpp>
#include <dro/models/retrieval_batch.hpp>
#include <dro/models/transformer/beam_search.hpp>
#include <dro/models/transformer/transformer.hpp>
#include <dro/ranking/draws.hpp>

namespace dro::models {

/// What a reader does with rankings that were drawn more than once for a question.
enum class repeated_rankings {
  read_once,  ///< looks which they are, for which it waits for the backend, and reads each once
  read_each,  ///< reads each draw; nothing waits, so that a step can be captured
};

struct generative_reader_options {
  index_t sequences = 32;  ///< how many (question, ranking) are read at a time: the memory grows with it
  repeated_rankings repeated = repeated_rankings::read_once;
};

namespace detail {

/// The tokens of (question, ranking) i, padded on the left so that all prompts end at one row, followed by the answer
/// as far as there is room; and what each row has to predict: the answer, from the prompt's last row on.
struct reading_program {
  matrix_view<const token_t> heads, texts, answers;  // [S × Q], [S·n × D], [S × A]
  matrix_view<const token_t> marker;                 // [1 × M]
  matrix_view<const document_t> rankings;            // [draws × K]
  matrix_view<const std::int32_t> items;             // [R × 2]: draw and question, −1 for nothing
  matrix_view<token_t> tokens, targets;              // [R·L × 1]
  matrix_view<std::int32_t> starts;                  // [R × 1]
  index_t most_documents, prompt, length;

  [[nodiscard]] index_t width() const { return length; }

  /// Tokens before the padding of a row.
  template <class Team>
  [[nodiscard]] static DRO_HOST_DEVICE index_t count(Team& team, const matrix_view<const token_t>& m, index_t row) {
    return team.template sum<index_t>(m.cols, [&](index_t j) { return static_cast<index_t>(m(row, j) != no_token); });
  }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t item) const {
    const index_t draw = items(item, 0);
    const index_t query = items(item, 1);
    const index_t base = item * length;
    team.for_each(length, [&](index_t a) { tokens(base + a, 0) = targets(base + a, 0) = no_token; });
    if (draw < 0) {
      if (team.rank() == 0) starts(item, 0) = static_cast<std::int32_t>(length);
      return;
    }
    team.barrier();
    // From the end of the prompt backwards, so that no length need be known before.
    index_t end = prompt - marker.cols;
    team.for_each(marker.cols, [&](index_t j) { tokens(base + end + j, 0) = marker(0, j); });
    for (index_t t = rankings.cols; t-- > 0;) {
      const document_t document = rankings(draw, t);
      if (document < 0 || document >= most_documents) continue;
      const index_t row = query * most_documents + document;
      const index_t size = count(team, texts, row);
      end -= size;
      team.for_each(size, [&](index_t j) { tokens(base + end + j, 0) = texts(row, j); });
    }
    const index_t size = count(team, heads, query);
    end -= size;
    team.for_each(size, [&](index_t j) { tokens(base + end + j, 0) = heads(query, j); });
    const index_t whole = count(team, answers, query);
    const index_t room = length - prompt + 1;
    const index_t answer = whole < room ? whole : room;
    team.for_each(answer, [&](index_t j) {
      if (prompt + j < length) tokens(base + prompt + j, 0) = answers(query, j);
      targets(base + prompt - 1 + j, 0) = answers(query, j);
    });
    if (team.rank() == 0) starts(item, 0) = static_cast<std::int32_t>(end);
  }
};

/// Every draw as an item of its own, −1 for the items beyond them.
struct each_draw_program {
  matrix_view<std::int32_t> items;    // [items × 2]: draw and question
  matrix_view<std::int32_t> item_of;  // [draws × 1]
  index_t samples;                    // draws a question

  [[nodiscard]] index_t width() const { return 1; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t item) const {
    if (team.rank() != 0) return;
    const bool is_draw = item < item_of.rows;
    items(item, 0) = is_draw ? static_cast<std::int32_t>(item) : -1;
    items(item, 1) = is_draw ? static_cast<std::int32_t>(item / samples) : -1;
    if (is_draw) item_of(item, 0) = static_cast<std::int32_t>(item);
  }
};

/// out of a draw ← Σ over the rows of its item.
template <class T>
struct sum_of_item_program {
  matrix_view<const T> log_prob;            // [R·L × 1]
  matrix_view<const std::int32_t> item_of;  // [draws × 1], counted from the first item of all
  matrix_view<T> out;                       // [draws × 1]
  index_t first, items, length;             // these items are here

  [[nodiscard]] index_t width() const { return length; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t draw) const {
    const index_t item = item_of(draw, 0) - first;
    if (item < 0 || item >= items) return;
    const T sum = team.template sum<T>(length, [&](index_t a) { return log_prob(item * length + a, 0); });
    if (team.rank() == 0) out(draw, 0) = sum;
  }
};

/// Coefficient of each row of an item: the sum of its question's draws that share it, in their order.
template <class T>
struct item_coefficient_program {
  grouped_view<const T> coefficients;
  grouping groups;
  matrix_view<const std::int32_t> items, item_of;
  matrix_view<T> out;  // [R·L × 1]
  index_t first, length;

  [[nodiscard]] index_t width() const { return length; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t item) const {
    const index_t query = items(item, 1);
    T sum = T(0);
    if (query >= 0) {
      for (index_t i = 0; i < groups.size(query); ++i) {
        if (item_of(groups.begin(query) + i, 0) == first + item) sum += coefficients(query, i);
      }
    }
    team.for_each(length, [&](index_t a) { out(item * length + a, 0) = sum; });
  }
};

}  // namespace detail

/// A generative reader over a transformer: a dro::generator of retrieval_batch. The backend outlives it.
template <multiplies B, class T>
class generative_reader {
 public:
  using scalar_type = T;

  /// Throws option_error for less than one sequence at a time.
  explicit generative_reader(transformer<B, T> model, const generative_reader_options& options = {})
      : model_(std::move(model)), options_(options) {
    if (options.sequences < 1) {
      throw option_error("generative_reader: sequences is " + std::to_string(options.sequences) +
                         ", expected at least 1");
    }
  }

  [[nodiscard]] transformer<B, T>& model() { return model_; }
  [[nodiscard]] const transformer<B, T>& model() const { return model_; }

  template <class F>
  void for_each_parameter(F&& f) {
    model_.for_each_parameter(std::forward<F>(f));
  }

  /// log p(y|x,d_z) of each draw, [draws × 1], nats. Places of a ranking that are no_document are left out of the
  /// prompt. Throws shape_error, option_error for tokens that the model does not have and if prompt and answer are
  /// longer than it takes. Reads the rankings back unless told to read each draw.
  [[nodiscard]] matrix_t<B, T> log_likelihood(B& b, const retrieval_batch<B>& queries, const draws<B, T>& z) const {
    auto out = b.template make<T>(z.groups().total(), 1);
    queries.require_reader_tokens(model_.config().vocab_size);
    const reading r(b, queries, z, options_, b.view(queries.answers()).cols);
    if (r.items == 0) return out;
    memory_.fit(b, model_.config(), r.at_once, r.length, transformer_use::score);
    for (index_t first = 0; first < r.items; first += r.at_once) {
      r.assemble(b, first);
      model_.log_prob(b, r.batch(b), r.targets(b), b.view(r.log_prob), memory_);
      r.sum(b, first, b.view(out));
    }
    return out;
  }

  /// Adds Σ_i c_i ∇ log p(y|x,d_{z_i}), `coefficients` [draws × 1] or [S × m]. Throws and waits as log_likelihood.
  void accumulate_gradient(B& b, const retrieval_batch<B>& queries, const draws<B, T>& z,
                           const matrix_t<B, T>& coefficients) {
    const grouped_view<const T> by_draw(std::as_const(b).view(coefficients), z.groups(),
                                        "generative_reader: coefficients");
    queries.require_reader_tokens(model_.config().vocab_size);
    const reading r(b, queries, z, options_, b.view(queries.answers()).cols);
    if (r.items == 0) return;
    memory_.fit(b, model_.config(), r.at_once, r.length, transformer_use::train);
    auto by_row = b.template make<T>(r.at_once * r.length, 1);
    for (index_t first = 0; first < r.items; first += r.at_once) {
      r.assemble(b, first);
      b.run(r.at_once, detail::item_coefficient_program<T>{by_draw, z.groups(), r.chosen(b, first), r.item_of_draw(b),
                                                           b.view(by_row), first, r.length});
      model_.accumulate_gradient(b, r.batch(b), r.targets(b), std::as_const(b).view(std::as_const(by_row)),
                                 b.view(r.log_prob), memory_);
    }
  }

  /// The best answers to each draw's prompt that a beam search finds, best first, with their log p(y|x,d_z): see
  /// beam_search. Equal rankings of a question are searched for once, unless told to read each draw. Throws as
  /// log_likelihood and beam_search do. Waits for the backend.
  [[nodiscard]] std::vector<std::vector<continuation<T>>> answers(B& b, const retrieval_batch<B>& queries,
                                                                  const draws<B, T>& z,
                                                                  const search_options& options = {}) const {
    queries.require_reader_tokens(model_.config().vocab_size);
    const reading r(b, queries, z, options_, 1);
    std::vector<std::vector<continuation<T>>> of_item;
    for (index_t first = 0; first < r.items; first += r.at_once) {
      r.assemble(b, first);
      const token_batch prompts = r.batch(b);
      auto found = beam_search(b, model_, prompts.tokens, r.at_once, prompts.layout.starts, queries.style().end,
                               options, memory_);
      std::move(found.begin(), found.end(), std::back_inserter(of_item));
    }
    std::vector<std::vector<continuation<T>>> of_draw;
    for (index_t draw = 0; draw < z.groups().total(); ++draw) {
      of_draw.push_back(of_item[static_cast<std::size_t>(r.item_of(draw))]);
    }
    return of_draw;
  }

 private:
  /// The (question, ranking) pairs of some draws, a number of them at a time.
  class reading {
   public:
    /// With room for the first `answer` tokens of an answer, its last one being seen by nobody.
    reading(B& b, const retrieval_batch<B>& queries, const draws<B, T>& z, const generative_reader_options& options,
            index_t answer)
        : queries_(queries), z_(z) {
      require_queries(queries, z.groups(), "generative_reader");
      if (options.repeated == repeated_rankings::read_each) {
        list_each_draw(b, options.sequences);
      } else {
        list_each_ranking(b, options.sequences);
      }
      if (items == 0) return;
      prompt_ =
          b.view(queries.heads()).cols + z.select() * b.view(queries.texts()).cols + b.view(queries.marker()).cols;
      length = prompt_ + answer - 1;
      tokens_ = b.template make<token_t>(at_once * length, 1);
      targets_ = b.template make<token_t>(at_once * length, 1);
      starts_ = b.template make<std::int32_t>(at_once, 1);
      log_prob = b.template make<T>(at_once * length, 1);
    }

    index_t items = 0, at_once = 0, length = 0;
    mutable matrix_t<B, T> log_prob;  // [at_once·L × 1]

    void assemble(B& b, index_t first) const {
      const B& view = b;
      b.run(at_once, detail::reading_program{
                         view.view(queries_.heads()), view.view(queries_.texts()), view.view(queries_.answers()),
                         view.view(queries_.marker()), view.view(z_.rankings()), chosen(b, first), b.view(tokens_),
                         b.view(targets_), b.view(starts_), queries_.most_documents(), prompt_, length});
    }
    void sum(B& b, index_t first, matrix_view<T> out) const {
      b.run(out.rows, detail::sum_of_item_program<T>{std::as_const(b).view(std::as_const(log_prob)), item_of_draw(b),
                                                     out, first, at_once, length});
    }
    [[nodiscard]] token_batch batch(const B& b) const {
      return {b.view(std::as_const(tokens_)), {length, length, 1, b.view(std::as_const(starts_))}};
    }
    [[nodiscard]] matrix_view<const token_t> targets(const B& b) const { return b.view(std::as_const(targets_)); }
    [[nodiscard]] matrix_view<const std::int32_t> item_of_draw(const B& b) const { return b.view(item_of_); }
    [[nodiscard]] index_t item_of(index_t draw) const {
      return item_of_host_.rows() == 0 ? draw : item_of_host_(draw, 0);
    }
    /// The items that are read at a time, from `first` on.
    [[nodiscard]] matrix_view<const std::int32_t> chosen(const B& b, index_t first) const {
      matrix_view<const std::int32_t> part = b.view(list_);
      part.data += first * part.row_stride;
      part.rows = at_once;
      return part;
    }

   private:
    /// So many items, read `most` at a time; room for the last ones to be as many.
    [[nodiscard]] index_t plan(index_t count, index_t most) {
      items = count;
      at_once = most < items ? most : items;
      return items == 0 ? 0 : (items + at_once - 1) / at_once * at_once;
    }

    /// The items are the draws: known without a look at them.
    void list_each_draw(B& b, index_t most) {
      const grouping& groups = z_.groups();
      if (!groups.is_uniform()) {
        throw shape_error("generative_reader: repeated_rankings::read_each needs equal numbers of draws a question");
      }
      const index_t padded = plan(groups.total(), most);
      list_ = b.template make<std::int32_t>(padded, 2);
      item_of_ = b.template make<std::int32_t>(items, 1);
      b.run(padded, detail::each_draw_program{b.view(list_), b.view(item_of_), groups.per_query()});
    }

    /// An item for each ranking of a question that differs from those before it.
    void list_each_ranking(B& b, index_t most) {
      const grouping& groups = z_.groups();
      std::vector<std::pair<index_t, index_t>> pairs;  // draw and question of each item
      item_of_host_ = host_matrix<std::int32_t>(groups.total(), 1);
      const host_matrix<document_t> rankings = read(b, z_.rankings());
      const std::vector<index_t> begins = begins_of(b);
      for (index_t q = 0; q < groups.queries(); ++q) {
        std::map<std::vector<document_t>, std::int32_t> known;
        for (index_t draw = begins[static_cast<std::size_t>(q)]; draw < begins[static_cast<std::size_t>(q) + 1];
             ++draw) {
          std::vector<document_t> ranking(static_cast<std::size_t>(z_.select()));
          for (index_t t = 0; t < z_.select(); ++t) ranking[static_cast<std::size_t>(t)] = rankings(draw, t);
          const auto [place, is_new] = known.try_emplace(std::move(ranking), static_cast<std::int32_t>(pairs.size()));
          if (is_new) pairs.emplace_back(draw, q);
          item_of_host_(draw, 0) = place->second;
        }
      }
      host_matrix<std::int32_t> list(plan(static_cast<index_t>(pairs.size()), most), 2);
      for (index_t i = 0; i < list.rows(); ++i) {
        const auto [draw, query] = i < items ? pairs[static_cast<std::size_t>(i)] : std::pair<index_t, index_t>{-1, -1};
        list(i, 0) = static_cast<std::int32_t>(draw);
        list(i, 1) = static_cast<std::int32_t>(query);
      }
      list_ = write(b, list);
      item_of_ = write(b, item_of_host_);
    }

    /// Where the draws of each question begin, and where the last end.
    [[nodiscard]] std::vector<index_t> begins_of(B& b) const {
      const grouping& groups = z_.groups();
      std::vector<index_t> begins(static_cast<std::size_t>(groups.queries()) + 1);
      if (groups.is_uniform()) {
        for (std::size_t q = 0; q < begins.size(); ++q) begins[q] = static_cast<index_t>(q) * groups.per_query();
      } else {
        const host_matrix<std::int32_t> offsets = read(b, groups.offsets());
        for (std::size_t q = 0; q < begins.size(); ++q) begins[q] = offsets(static_cast<index_t>(q), 0);
      }
      return begins;
    }

    const retrieval_batch<B>& queries_;
    const draws<B, T>& z_;
    host_matrix<std::int32_t> item_of_host_;
    matrix_t<B, std::int32_t> list_, item_of_;
    mutable matrix_t<B, token_t> tokens_, targets_;
    mutable matrix_t<B, std::int32_t> starts_;
    index_t prompt_ = 0;
  };

  transformer<B, T> model_;
  generative_reader_options options_;
  mutable transformer_memory<B, T> memory_;  // one model works on one batch at a time
};

}  // namespace dro::models

#endif
