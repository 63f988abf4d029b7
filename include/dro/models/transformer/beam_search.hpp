// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TRANSFORMER_BEAM_SEARCH_HPP
#define DRO_MODELS_TRANSFORMER_BEAM_SEARCH_HPP

/// \file
/// The most probable continuations of prompts, by beam search; with a beam of 1, greedily.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>
#include <dro/models/transformer/transformer.hpp>

namespace dro::models {

/// How to search.
struct search_options {
  index_t beam = 1;         ///< continuations that are kept at each step
  index_t max_tokens = 16;  ///< most tokens before the one that ends a continuation
};

/// A continuation, without the token that ends it, and its log-probability with that token, nats.
template <class T>
struct continuation {
  std::vector<token_t> tokens;
  T log_prob;
};

namespace detail {

/// The best continuations of a sequence by one more token. Slot i of a sequence is row sequence · beam + i of all but
/// the logits and `live`; column t is of step t.
template <class T>
struct beam_step_program {
  matrix_view<const T> logits;  // [S × V] at step 0, then [S·beam × V]
  matrix_view<const std::int32_t> starts;
  matrix_view<T> log_prob;            // [S·beam × steps]: after step t
  matrix_view<std::int32_t> parents;  // [S·beam × steps]: the slot that is continued
  matrix_view<token_t> tokens;        // [S·beam × steps]: what with; no_token where it had ended, or is none
  matrix_view<token_t> next;          // [S·beam × 1]: what the model is to see
  matrix_view<std::int32_t> live;     // [S × 1]: how many have not ended
  index_t beam, step, prompt;
  token_t end;
  bool is_last;

  [[nodiscard]] index_t width() const { return logits.cols; }
  [[nodiscard]] std::size_t scratch_bytes() const { return sizeof(T) * static_cast<std::size_t>(beam); }

  [[nodiscard]] DRO_HOST_DEVICE bool has_ended(index_t row) const {
    return step > 0 && (tokens(row, step - 1) == end || tokens(row, step - 1) == no_token);
  }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t sequence) const {
    constexpr T nothing = -std::numeric_limits<T>::infinity();
    const index_t vocabulary = logits.cols;
    const index_t first = sequence * beam;
    const bool is_text = starts.data == nullptr || starts(sequence, 0) < prompt;
    const index_t slots = !is_text ? 0 : step == 0 ? 1 : beam;
    const auto logit = [&](index_t i, index_t v) { return logits(step == 0 ? sequence : first + i, v); };
    const auto before = [&](index_t i) { return step == 0 ? T(0) : log_prob(first + i, step - 1); };
    T* const log_sums = team.template scratch<T>();
    for (index_t i = 0; i < slots; ++i) {
      if (has_ended(first + i)) continue;
      const T largest = team.max(vocabulary, nothing, [&](index_t v) { return logit(i, v); });
      const T sum = team.template sum<T>(vocabulary, [&](index_t v) { return math::exp(logit(i, v) - largest); });
      if (team.rank() == 0) log_sums[i] = largest + math::log(sum);
    }
    team.barrier();
    const auto score = [&](index_t candidate) {
      const index_t i = candidate / vocabulary;
      const index_t v = candidate % vocabulary;
      if (has_ended(first + i)) return v == end ? before(i) : nothing;
      return is_last && v != end ? nothing : before(i) + (logit(i, v) - log_sums[i]);
    };
    index_t last = -1;
    T of_last = std::numeric_limits<T>::infinity();
    std::int32_t left = 0;
    for (index_t k = 0; k < beam; ++k) {
      const index_t best = team.arg_max(slots * vocabulary, nothing, [&](index_t candidate) {
        const T s = score(candidate);
        return s < of_last || (s == of_last && candidate > last) ? s : nothing;
      });
      const bool found = best < slots * vocabulary;
      const index_t parent = found ? best / vocabulary : 0;
      const bool goes_on = found && !has_ended(first + parent);
      const token_t token = goes_on ? static_cast<token_t>(best % vocabulary) : no_token;
      if (found) {
        last = best;
        of_last = score(best);
      }
      if (goes_on && token != end) ++left;
      if (team.rank() == 0) {
        parents(first + k, step) = static_cast<std::int32_t>(parent);
        tokens(first + k, step) = token;
        next(first + k, 0) = token == end ? no_token : token;
        log_prob(first + k, step) = found ? of_last : nothing;
      }
    }
    if (team.rank() == 0) live(sequence, 0) = left;
  }
};

}  // namespace detail

/// The `beam` best continuations that a beam search finds for each of S prompts, best first; fewer where there are not
/// as many. A continuation that has ended stays in the beam as long as it is among the best. After `max_tokens` tokens
/// nothing but the end may follow, so each log-probability is that of a whole answer; of equal ones, which comes first
/// is always the same.
///
/// `prompts` [S·P × 1], padded on the left as `starts` [S × 1] says (or a view of nothing); one that is all padding has
/// no continuations. Works in `memory`. Throws option_error for a beam or max_tokens below 1, and an end that is no
/// token of the model; shape_error if prompt and continuation are longer than the model takes. Reads one number a
/// prompt after each token, to stop when all have ended. Cost: one pass over the prompts and at most max_tokens over
/// S · beam rows.
template <multiplies B, class T>
[[nodiscard]] std::vector<std::vector<continuation<T>>> beam_search(B& b, const transformer<B, T>& model,
                                                                    matrix_view<const token_t> prompts,
                                                                    index_t sequences,
                                                                    matrix_view<const std::int32_t> starts, token_t end,
                                                                    const search_options& options,
                                                                    transformer_memory<B, T>& memory) {
  const index_t vocabulary = model.config().vocab_size;
  const index_t beam = options.beam;
  if (beam < 1 || options.max_tokens < 1) {
    throw option_error("beam_search: beam is " + std::to_string(beam) + " and max_tokens " +
                       std::to_string(options.max_tokens) + ", expected at least 1");
  }
  if (end < 0 || end >= vocabulary) {
    throw option_error("beam_search: the end is token " + std::to_string(end) + " of " + std::to_string(vocabulary));
  }
  if (sequences < 1 || prompts.cols != 1 || prompts.rows < sequences || prompts.rows % sequences != 0) {
    throw shape_error("beam_search: prompts is " + dro::detail::shape_text(prompts.rows, prompts.cols) + " for " +
                      std::to_string(sequences) + " prompts");
  }
  const index_t prompt = prompts.rows / sequences;
  const sequence_layout layout{prompt + beam * options.max_tokens, prompt, options.max_tokens, starts};
  memory.fit(b, model.config(), sequences, layout.length, transformer_use::decode);
  const index_t slots = sequences * beam;
  const index_t steps = options.max_tokens + 1;
  auto logits = b.template make<T>(slots, vocabulary);
  auto log_prob = b.template make<T>(slots, steps);
  auto parents = b.template make<std::int32_t>(slots, steps);
  auto tokens = b.template make<token_t>(slots, steps);
  auto next = b.template make<token_t>(slots, 1);
  auto live = b.template make<std::int32_t>(sequences, 1);
  index_t step = 0;
  for (;; ++step) {
    const bool at_start = step == 0;
    const row_span rows = at_start ? row_span{prompt} : row_span{beam, prompt + step - 1, layout.branch};
    const token_batch batch{at_start ? prompts : matrix_view<const token_t>(b.view(next)), layout};
    matrix_view<const T> hidden = model.hidden(b, batch, rows, memory);
    matrix_view<T> l = b.view(logits);
    if (at_start) {
      hidden = ends_of_sequences(hidden, prompt);
      l.rows = sequences;
    }
    model.logits(b, hidden, l, memory);
    b.run(sequences,
          detail::beam_step_program<T>{l, starts, b.view(log_prob), b.view(parents), b.view(tokens), b.view(next),
                                       b.view(live), beam, step, prompt, end, step + 1 == steps});
    if (step + 1 == steps) break;
    const host_matrix<std::int32_t> counts = read(b, live);
    if (std::all_of(counts.data(), counts.data() + sequences, [](std::int32_t n) { return n == 0; })) break;
    const matrix_view<std::int32_t> all = b.view(parents);
    model.reorder_branches(b, layout, {all.data + step * all.col_stride, slots, 1, all.row_stride, all.col_stride},
                           step, memory);
  }
  const auto read_made = [&](const auto& matrix) {  // the columns of the steps that were made
    auto view = std::as_const(b).view(matrix);
    view.cols = step + 1;
    host_matrix<std::remove_const_t<typename decltype(view)::element_type>> made(view.rows, view.cols);
    b.read(view, made.data());
    return made;
  };
  const auto log_probs = read_made(log_prob);
  const auto parent = read_made(parents);
  const auto token = read_made(tokens);
  std::vector<std::vector<continuation<T>>> found(static_cast<std::size_t>(sequences));
  for (index_t slot = 0; slot < slots; ++slot) {
    continuation<T> c{{}, log_probs(slot, step)};
    if (c.log_prob == -std::numeric_limits<T>::infinity()) continue;
    index_t row = slot;
    for (index_t t = step + 1; t-- > 0; row = slot / beam * beam + parent(row, t)) {
      if (token(row, t) != no_token && token(row, t) != end) c.tokens.push_back(token(row, t));
    }
    std::reverse(c.tokens.begin(), c.tokens.end());
    found[static_cast<std::size_t>(slot / beam)].push_back(std::move(c));
  }
  return found;
}

}  // namespace dro::models

#endif
