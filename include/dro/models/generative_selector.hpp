// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_GENERATIVE_SELECTOR_HPP
#define DRO_MODELS_GENERATIVE_SELECTOR_HPP

/// \file
/// A language model that selects: it reads the question with its numbered documents and writes the numbers of those it
/// wants, one after the other, each only once:
///
///     p(z|x) = Π_t exp(s_{z_t}) / Σ_{j not in z_<t} exp(s_j),   s_j the logit of identifier j after prompt and z_<t.
///
/// The m lists of a question are branches of one sequence whose trunk is the prompt (sequence_layout.hpp): it is read
/// once, in sampling and in training alike.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>
#include <dro/models/llama_config.hpp>
#include <dro/models/retrieval_batch.hpp>
#include <dro/models/transformer/linear_rows.hpp>
#include <dro/models/transformer/row_pieces.hpp>
#include <dro/models/transformer/transformer.hpp>
#include <dro/random/noise.hpp>
#include <dro/random/noise_source.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/draws.hpp>
#include <dro/ranking/sampling.hpp>

namespace dro::models {

namespace detail {

/// Which documents may be picked at place t of a ranking: those the question has that are not among z_<t.
struct candidates {
  matrix_view<const document_t> rankings;     // [draws × K]
  matrix_view<const std::int32_t> documents;  // [S × 1]
  index_t samples;                            // m

  [[nodiscard]] DRO_HOST_DEVICE bool operator()(index_t draw, index_t t, index_t j) const {
    if (j >= documents(draw / samples, 0)) return false;
    for (index_t u = 0; u < t; ++u) {
      if (rankings(draw, u) == j) return false;
    }
    return true;
  }
};

/// log Σ exp(s_j / τ) over the candidates; −inf if there is none, NaN if one of them has NaN.
template <class T, class Team, class Allowed, class Logit>
DRO_HOST_DEVICE T log_sum_of_candidates(Team& team, index_t n, const Allowed& allowed, const Logit& logit) {
  constexpr T nothing = -std::numeric_limits<T>::infinity();
  const T found = team.max(n, nothing, [&](index_t j) { return allowed(j) ? logit(j) : nothing; });
  const T shift = found > nothing ? found : T(0);
  return shift +
         math::log(team.template sum<T>(n, [&](index_t j) { return allowed(j) ? math::exp(logit(j) - shift) : T(0); }));
}

/// Picks z_t of each draw by Gumbel-max, adds to its log q, and writes the token that comes next.
template <class T>
struct pick_document_program {
  matrix_view<const T> logits;  // [S × n] at the first place, then [draws × n]
  candidates allowed;
  matrix_view<document_t> rankings;
  matrix_view<T> log_prob;                 // [draws × 1]
  matrix_view<token_t> next;               // [draws × 1]
  matrix_view<const token_t> identifiers;  // [n × 1]
  index_t place;
  T temperature;
  random_source random;
  joint_noise noise;

  [[nodiscard]] index_t width() const { return logits.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t draw) const {
    constexpr T nothing = -std::numeric_limits<T>::infinity();
    const index_t n = logits.cols;
    const index_t query = draw / allowed.samples;
    const index_t row = place == 0 ? query : draw;
    const noise_source source{random.key(), static_cast<std::uint32_t>(query),
                              static_cast<std::uint32_t>(draw % allowed.samples), noise};
    const auto may = [&](index_t j) { return allowed(draw, place, j); };
    const auto logit = [&](index_t j) { return logits(row, j) / temperature; };
    const T log_sum = log_sum_of_candidates<T>(team, n, may, logit);
    const index_t first = place * ((n + 3) / 4) * 4;  // each place has words of its own
    const index_t best = team.arg_max(n, nothing, [&](index_t j) {
      return may(j) ? logit(j) + source.gumbel<T>(static_cast<std::uint32_t>(first + j)) : nothing;
    });
    const bool found = best < n;
    if (team.rank() == 0) {
      rankings(draw, place) = found ? static_cast<document_t>(best) : no_document;
      next(draw, 0) = found ? identifiers(best, 0) : no_token;
      const T step = found ? logit(best) - log_sum : nothing;
      log_prob(draw, 0) = place == 0 ? step : log_prob(draw, 0) + step;
    }
  }
};

/// The logits of all rows, of which those of draw i, place t, are one: at the end of the prompt for t = 0, else at the
/// branch's row that holds the pick before.
template <class T>
struct choice_logits {
  matrix_view<T> all;  // [S·L × n]
  sequence_layout layout;
  index_t samples;

  [[nodiscard]] DRO_HOST_DEVICE T& operator()(index_t draw, index_t t, index_t j) const {
    const index_t sequence = draw / samples;
    const index_t row = layout.trunk - 1 + (t == 0 ? 0 : draw % samples * layout.branch + t);
    return all(sequence * layout.length + row, j);
  }
};

/// log p(z|x) of each draw; −inf for what is no ranking of the question's documents.
template <class T>
struct choice_log_prob_program {
  choice_logits<const T> logits;
  candidates allowed;
  matrix_view<T> log_prob;
  T temperature;

  [[nodiscard]] index_t width() const { return logits.all.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t draw) const {
    const index_t n = logits.all.cols;
    T total = T(0);
    for (index_t t = 0; t < allowed.rankings.cols; ++t) {
      const document_t pick = allowed.rankings(draw, t);
      if (pick < 0 || pick >= n || !allowed(draw, t, pick)) {
        total = -std::numeric_limits<T>::infinity();
        break;
      }
      const auto logit = [&](index_t j) { return logits(draw, t, j) / temperature; };
      total += logit(pick) - log_sum_of_candidates<T>(
                                 team, n, [&](index_t j) { return allowed(draw, t, j); }, logit);
    }
    if (team.rank() == 0) log_prob(draw, 0) = total;
  }
};

/// ∂ Σ c_i log p(z_i|x) / ∂ logits, one question a row: that of place 0 sums over its draws, in their order.
template <class T>
struct choice_gradient_program {
  choice_logits<const T> logits;
  choice_logits<T> d_logits;
  candidates allowed;
  grouped_view<const T> coefficients;

  [[nodiscard]] index_t width() const { return logits.all.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    const index_t n = logits.all.cols;
    const index_t select = allowed.rankings.cols;
    const index_t length = d_logits.layout.length;
    team.for_each(length * n, [&](index_t k) { d_logits.all(query * length + k / n, k % n) = T(0); });
    team.barrier();
    for (index_t i = 0; i < allowed.samples; ++i) {
      const index_t draw = query * allowed.samples + i;
      bool possible = true;
      for (index_t t = 0; t < select; ++t) {
        const document_t pick = allowed.rankings(draw, t);
        possible = possible && pick >= 0 && pick < n && allowed(draw, t, pick);
      }
      const T c = possible ? coefficients(query, i) : T(0);
      if (c == T(0)) continue;
      for (index_t t = 0; t < select; ++t) {
        const auto may = [&](index_t j) { return allowed(draw, t, j); };
        const auto logit = [&](index_t j) { return logits(draw, t, j); };
        const T log_sum = log_sum_of_candidates<T>(team, n, may, logit);
        team.for_each(n, [&](index_t j) {
          const T hit = j == allowed.rankings(draw, t) ? T(1) : T(0);
          if (may(j)) d_logits(draw, t, j) += c * (hit - math::exp(logit(j) - log_sum));
        });
        team.barrier();
      }
    }
  }
};

/// The tokens of prompt and branches: branch i holds the identifiers of z_1 … z_{K−1} of draw i.
struct choice_tokens_program {
  matrix_view<const token_t> prompts;  // [S·P × 1]
  matrix_view<const document_t> rankings;
  matrix_view<const token_t> identifiers;
  matrix_view<token_t> tokens;  // [S·L × 1]
  index_t prompt, length, branch, samples;

  [[nodiscard]] index_t width() const { return length; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    team.for_each(length, [&](index_t a) {
      token_t token = no_token;
      if (a < prompt) {
        token = prompts(query * prompt + a, 0);
      } else {
        const index_t t = (a - prompt) % branch;
        const document_t pick = t < rankings.cols ? rankings(query * samples + (a - prompt) / branch, t) : no_document;
        if (pick >= 0 && pick < identifiers.rows) token = identifiers(pick, 0);
      }
      tokens(query * length + a, 0) = token;
    });
  }
};

}  // namespace detail

/// A generative list-wise selector over a transformer. A dro::selector of retrieval_batch, and a sampling_selector: τ
/// and joint noise as `sampling` has them, top-k and top-p not. Draws of a question are its branches, so rankings that
/// are scored or learnt from come in equal numbers for each question. The backend outlives it.
template <multiplies B, class T>
class generative_selector {
 public:
  using scalar_type = T;

  explicit generative_selector(transformer<B, T> model) : model_(std::move(model)) {}

  [[nodiscard]] transformer<B, T>& model() { return model_; }
  [[nodiscard]] const transformer<B, T>& model() const { return model_; }

  template <class F>
  void for_each_parameter(F&& f) {
    model_.for_each_parameter(std::forward<F>(f));
  }

  /// Draws by Gumbel-max, one pass over the prompts and K − 1 over one row a draw. log q is exact under the constraint
  /// and the temperature. A question with fewer than K documents gets incomplete rankings of log q = −inf. Throws
  /// option_error if samples or K do not fit, or for options it does not take, shape_error. Reads nothing back.
  [[nodiscard]] draws<B, T> draw(B& b, const retrieval_batch<B>& queries, const draw_options& options,
                                 const random_source& random, const sampling& how = {}) const {
    require_drawable(options, queries.most_documents());
    require(how);
    require_joint_noise(how.noise, options.samples);
    const auto groups = grouping::uniform(static_cast<index_t>(queries.size()), options.samples);
    auto rankings = b.template make<document_t>(groups.total(), options.select);
    auto log_prob = b.template make<T>(groups.total(), 1);
    auto next = b.template make<token_t>(groups.total(), 1);
    const choice c(b, model_, queries, options.samples, options.select);
    memory_.fit(b, model_.config(), groups.queries(), c.layout.length, transformer_use::decode);
    auto logits = b.template make<T>(groups.total(), queries.most_documents());
    for (index_t t = 0; t < options.select; ++t) {
      const bool at_start = t == 0;
      const row_span rows =
          at_start ? row_span{c.layout.trunk} : row_span{options.samples, c.layout.trunk + t - 1, c.layout.branch};
      const matrix_view<const token_t> tokens = at_start ? c.prompts(b) : matrix_view<const token_t>(b.view(next));
      const matrix_view<const T> hidden = model_.hidden(b, {tokens, c.layout}, rows, memory_);
      matrix_view<T> l = b.view(logits);
      if (at_start) l.rows = groups.queries();
      matmul(b, T(1), at_start ? ends_of_sequences(hidden, c.layout.trunk) : hidden, transposed(c.table(b)), T(0), l,
             {.precision = model_.precision()});
      b.run(groups.total(),
            detail::pick_document_program<T>{l, c.allowed(b, std::as_const(b).view(std::as_const(rankings))),
                                             b.view(rankings), b.view(log_prob), b.view(next), c.identifiers(b), t,
                                             static_cast<T>(how.temperature), random, how.noise});
    }
    return draws<B, T>(b, std::move(rankings), std::move(log_prob), groups, how.traits());
  }

  /// log p(z|x) of each draw, [draws × 1], nats, or log q of what `how` draws. Throws shape_error unless each question
  /// has the same number of draws. One pass over prompts and branches.
  [[nodiscard]] matrix_t<B, T> log_prob(B& b, const retrieval_batch<B>& queries, const draws<B, T>& z,
                                        const sampling& how = {}) const {
    require(how);
    require_uniform(queries, z);
    auto out = b.template make<T>(z.groups().total(), 1);
    const choice c(b, model_, queries, z.groups().per_query(), z.select());
    memory_.fit(b, model_.config(), z.groups().queries(), c.layout.length, transformer_use::score);
    const matrix_view<const document_t> rankings = std::as_const(b).view(z.rankings());
    const auto tokens = c.tokens(b, rankings);
    const auto logits = c.logits(b, model_.hidden(b, {std::as_const(b).view(tokens), c.layout}, memory_));
    b.run(z.groups().total(),
          detail::choice_log_prob_program<T>{c.view(std::as_const(b).view(logits)), c.allowed(b, rankings), b.view(out),
                                             static_cast<T>(how.temperature)});
    return out;
  }

  /// Adds Σ_i c_i ∇ log p(z_i|x), `coefficients` [draws × 1] or [S × m]. Throws as log_prob.
  void accumulate_gradient(B& b, const retrieval_batch<B>& queries, const draws<B, T>& z,
                           const matrix_t<B, T>& coefficients) {
    require_uniform(queries, z);
    const choice c(b, model_, queries, z.groups().per_query(), z.select());
    memory_.fit(b, model_.config(), z.groups().queries(), c.layout.length, transformer_use::train);
    const matrix_view<const document_t> rankings = std::as_const(b).view(z.rankings());
    const auto tokens = c.tokens(b, rankings);
    const token_batch batch{std::as_const(b).view(tokens), c.layout};
    const matrix_view<const T> hidden = model_.hidden(b, batch, memory_);
    const auto logits = c.logits(b, hidden);
    auto d_logits = b.template make<T>(hidden.rows, queries.most_documents());
    b.run(z.groups().queries(), detail::choice_gradient_program<T>{c.view(std::as_const(b).view(logits)),
                                                                   c.view(b.view(d_logits)),
                                                                   c.allowed(b, rankings),
                                                                   {std::as_const(b).view(coefficients), z.groups(),
                                                                    "generative_selector: coefficients"}});
    const matrix_view<const T> d = std::as_const(b).view(std::as_const(d_logits));
    matmul(b, T(1), d, c.table(b), T(0), model_.d_hidden(memory_), {.precision = model_.precision()});
    if (const linear_layer<T> output = model_.output(); output.learns()) {
      auto d_table = b.template make<T>(queries.most_documents(), hidden.cols);
      matmul(b, T(1), transposed(d), hidden, T(0), b.view(d_table), {.precision = model_.precision()});
      linear_rows_gradient<B, T>(b, output, c.identifiers(b), std::as_const(b).view(std::as_const(d_table)));
    }
    model_.accumulate_hidden_gradient(b, batch, memory_);
  }

 private:
  /// Prompts with room for the choices, and the output layer's rows of the identifiers.
  class choice {
   public:
    choice(B& b, const transformer<B, T>& model, const retrieval_batch<B>& queries, index_t samples, index_t select)
        : layout(layout_of(b, queries, samples, select)),
          queries_(queries),
          samples_(samples),
          precision_(model.precision()),
          table_(b.template make<T>(queries.most_documents(), model.config().hidden_size)) {
      queries.require_selector_tokens(model.config().vocab_size);
      linear_rows<B, T>(b, model.output(), identifiers(b), b.view(table_));
    }

    sequence_layout layout;

    [[nodiscard]] matrix_view<const token_t> prompts(const B& b) const { return b.view(queries_.prompts()); }
    [[nodiscard]] matrix_view<const token_t> identifiers(const B& b) const { return b.view(queries_.identifiers()); }
    [[nodiscard]] matrix_view<const T> table(const B& b) const { return b.view(table_); }
    [[nodiscard]] detail::candidates allowed(const B& b, matrix_view<const document_t> rankings) const {
      return {rankings, b.view(queries_.documents()), samples_};
    }
    template <class U>
    [[nodiscard]] detail::choice_logits<U> view(matrix_view<U> logits) const {
      return {logits, layout, samples_};
    }
    [[nodiscard]] matrix_t<B, token_t> tokens(B& b, matrix_view<const document_t> rankings) const {
      const auto queries = static_cast<index_t>(queries_.size());
      auto out = b.template make<token_t>(queries * layout.length, 1);
      b.run(queries, detail::choice_tokens_program{prompts(b), rankings, identifiers(b), b.view(out), layout.trunk,
                                                   layout.length, layout.branch, samples_});
      return out;
    }
    /// The identifiers' logits of every row, [S·L × n].
    [[nodiscard]] matrix_t<B, T> logits(B& b, const matrix_view<const T>& hidden) const {
      auto out = b.template make<T>(hidden.rows, queries_.most_documents());
      matmul(b, T(1), hidden, transposed(table(b)), T(0), b.view(out), {.precision = precision_});
      return out;
    }

   private:
    [[nodiscard]] static sequence_layout layout_of(const B& b, const retrieval_batch<B>& queries, index_t samples,
                                                   index_t select) {
      const index_t branch = select > 1 ? select - 1 : 1;
      const index_t prompt = queries.prompt_length();
      return {prompt + samples * branch, prompt, branch, b.view(queries.starts())};
    }

    const retrieval_batch<B>& queries_;
    index_t samples_;
    matmul_precision precision_;
    matrix_t<B, T> table_;
  };

  static void require(const sampling& how) {
    require_sampling(how);
    if (how.truncates()) throw option_error("generative_selector: top_k and top_p are not taken");
  }
  static void require_uniform(const retrieval_batch<B>& queries, const draws<B, T>& z) {
    require_queries(queries, z.groups(), "generative_selector");
    if (!z.groups().is_uniform()) {
      throw shape_error("generative_selector: questions with different numbers of draws, expected equal numbers");
    }
  }

  transformer<B, T> model_;
  mutable transformer_memory<B, T> memory_;  // one model works on one batch at a time
};

}  // namespace dro::models

#endif
