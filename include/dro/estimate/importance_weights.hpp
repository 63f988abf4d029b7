// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_ESTIMATE_IMPORTANCE_WEIGHTS_HPP
#define DRO_ESTIMATE_IMPORTANCE_WEIGHTS_HPP

/// \file
/// Self-normalised importance weights of draws, and what they say of the step.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/backend/overlapped.hpp>
#include <dro/backend/team.hpp>
#include <dro/config.hpp>
#include <dro/estimate/packed_draws.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/estimate/status.hpp>
#include <dro/math/binary_format.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>

namespace dro {

/// Weights of m draws a query and their diagnostics. Weights have the shape of the log-likelihoods they came from; the
/// rest is [queries × 1]. A query that is not used (see dro::status) has weights 0, effective_sample_size 0,
/// largest_weight 0, entropy 0; its log_evidence and elbo are −inf if it is impossible, else NaN. Where draws have
/// multiplicities n_i, m = Σ n_i and every sum is over equal draws: n_i w_i stands for w_i in it.
template <backend B, class T>
struct importance_weights_result {
  matrix_t<B, T> normalised;             ///< w̄_i = n_i w_i / Σ_j n_j w_j
  matrix_t<B, T> log_evidence;           ///< log (1/m) Σ w_i, nats: consistent for log p(y|x), biased low by Jensen
  matrix_t<B, T> elbo;                   ///< (1/m) Σ log w_i, nats: unbiased for the bound E_q[log p(y,z|x) − log q]
  matrix_t<B, T> effective_sample_size;  ///< 1 / Σ w̄², in [1, m] (Kong 1992)
  matrix_t<B, T> largest_weight;         ///< max w̄ of a single draw, in [1/m, 1]
  matrix_t<B, T> entropy;                ///< −Σ w̄ log w̄, nats, in [0, log m]
  matrix_t<B, std::int32_t> status;      ///< dro::status of each query
};

namespace detail {

/// Each draw counts once.
template <class T>
struct once {
  DRO_HOST_DEVICE constexpr T operator()(index_t) const { return T(1); }
};

/// Nothing is kept from one pass to the next.
struct recomputed {};

/// Where the weights of one query and what they say are written.
template <class T>
struct weight_outputs {
  grouped_view<T> normalised;
  matrix_view<T> log_evidence, elbo, effective_sample_size, largest_weight, entropy;
  matrix_view<std::int32_t> status_of;

  /// Weights of query q from log_weight(i), i in [0, size), where draw i counts count(i) times.
  template <class Team, class LogWeight, class Count>
  DRO_HOST_DEVICE void write(Team& team, index_t q, index_t size, bool covers, const LogWeight& log_weight,
                             const Count& count) const {
    write_to(team, normalised.row(q), q, size, covers, log_weight, count, recomputed{});
  }

  /// The same with the row of `normalised` to write to. Three passes: the largest weight; all sums; the weights. The
  /// exponentials of the second are kept for the third in `kept`, T* to memory that nobody else reads, or recomputed.
  template <class Team, class Row, class LogWeight, class Count, class Kept>
  DRO_HOST_DEVICE void write_to(Team& team, Row weights, index_t q, index_t size, bool covers,
                                const LogWeight& log_weight, const Count& count, [[maybe_unused]] Kept kept) const {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    constexpr bool counts_once = std::is_same_v<Count, once<T>>;
    constexpr bool keeps = !std::is_same_v<Kept, recomputed>;
    // A draw that counts for nothing must not spoil anything either.
    const auto value = [&](index_t i) {
      if constexpr (counts_once) {
        return log_weight(i);
      } else {
        return count(i) > T(0) ? log_weight(i) : -infinity;
      }
    };
    T m = static_cast<T>(size);
    bool is_counted = true;  // whether every count is a number of draws
    if constexpr (!counts_once) {
      const auto counted = team.template sum<pack<T, 2>>(size, [&](index_t i) {
        const T n = count(i);
        return pack<T, 2>{n, n >= T(0) && n < infinity ? T(0) : T(1)};
      });
      m = counted[0];
      is_counted = !(counted[1] > T(0));
    }
    const T largest = team.max(size, -infinity, value);
    // Over equal draws, with δ = log w − largest: Σ e^δ, Σ e^2δ, Σ e^δ δ, Σ δ.
    pack<T, 4> sums{};
    bool is_number = false;
    if (largest - largest == T(0)) {
      sums = team.template sum<pack<T, 4>>(size, [&](index_t i) {
        const T offset = value(i) - largest;
        const T e = math::exp(offset);
        const T spread = e * zero_unless_finite(offset);  // a weight of 0 adds nothing
        if constexpr (keeps) kept[i] = e;
        if constexpr (counts_once) {
          return pack<T, 4>{e, e * e, spread, offset};
        } else {
          const T n = count(i);
          return pack<T, 4>{n * e, n * e * e, n * spread, n > T(0) ? n * offset : T(0)};
        }
      });
      is_number = sums[0] == sums[0];  // max() passes over NaN, a sum does not
    } else {
      is_number = team.template sum<index_t>(size, [&](index_t i) {
        const T v = value(i);
        return static_cast<index_t>(v != v);
      }) == 0;
    }
    status state = covers ? status::ok : status::support;
    if (!is_number || !is_counted) {
      state = status::not_a_number;
    } else if (!(m > T(0))) {
      state = status::degenerate;
    } else if (largest == infinity) {
      state = status::unbounded;
    } else if (largest == -infinity) {
      state = status::impossible;
    }
    if (!is_used(state)) {
      set(team, size, weights, [](index_t) { return T(0); });
      if (team.rank() == 0) {
        const T evidence = state == status::impossible ? -infinity : std::numeric_limits<T>::quiet_NaN();
        write_query(q, evidence, evidence, T(0), T(0), T(0), state);
      }
      return;
    }
    const T inverse = T(1) / sums[0];
    if constexpr (keeps) {
      team.barrier();
      set(team, size, weights, [&](index_t i) { return count(i) * kept[i] * inverse; });
    } else {
      set(team, size, weights, [&](index_t i) { return count(i) * math::exp(value(i) - largest) * inverse; });
    }
    if (team.rank() == 0) {
      const T log_sum = math::log(sums[0]);
      const T spread = log_sum - sums[2] * inverse;  // −Σ w̄ log w̄ = log Σ e^δ − Σ w̄ δ
      write_query(q, largest + (log_sum - math::log(m)), largest + sums[3] / m, sums[0] * sums[0] / sums[1], inverse,
                  spread > T(0) ? spread : T(0), state);
    }
  }

 private:
  [[nodiscard]] static DRO_HOST_DEVICE T zero_unless_finite(T x) {
    namespace bitwise = math::detail;
    return bitwise::select(bitwise::less_mask<T>(bitwise::magnitude(x), bitwise::bits(bitwise::infinity<T>)), x, T(0));
  }

  template <class Team, class F>
  static DRO_HOST_DEVICE void set(Team& team, index_t size, T* weights, const F& f) {
    write_row(team, size, row_view<T>{weights, 1}, f);
  }
  template <class Team, class F>
  static DRO_HOST_DEVICE void set(Team& team, index_t size, const row_view<T>& weights, const F& f) {
    write_row(team, size, weights, f);
  }

  DRO_HOST_DEVICE void write_query(index_t q, T evidence, T bound, T ess, T heaviest, T spread, status state) const {
    log_evidence(q, 0) = evidence;
    elbo(q, 0) = bound;
    effective_sample_size(q, 0) = ess;
    largest_weight(q, 0) = heaviest;
    entropy(q, 0) = spread;
    status_of(q, 0) = static_cast<std::int32_t>(state);
  }
};

template <class T>
struct importance_weights_program {
  scored_draws<T> scores;
  weight_outputs<T> out;
  packed_draws<T> packed;
  even_rows<T> packed_out;  ///< where the weights of packed draws are written
  bool is_dense = false;    ///< nothing would lie better in scratch memory: on the host it stays where it is

  importance_weights_program(const scored_draws<T>& s, const weight_outputs<T>& o) : scores(s), out(o), packed(s) {
    if (packed.size() == 0) return;
    packed_out = even_rows_of(o.normalised);
    is_dense = packed.is_dense() && packed_out.is_dense();
  }

  static constexpr bool lives_in_scratch = true;
  static constexpr std::size_t scratch_word = sizeof(T);
  /// log w and e^δ of packed draws.
  [[nodiscard]] std::size_t scratch_bytes() const { return 2 * static_cast<std::size_t>(packed.size()) * sizeof(T); }
  /// What threads do for each other and for the row costs as much as eight draws.
  static constexpr index_t items_of_thread = 8;
  [[nodiscard]] index_t width() const { return scores.groups().mean_size(); }

  /// What is done for packed draws.
  template <class Team>
  DRO_HOST_DEVICE void in_scratch(Team& team, index_t q) const {
    packed.form() == row_form::likelihoods ? write_packed<row_form::likelihoods>(team, q)
                                           : write_packed<row_form::ratios>(team, q);
  }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    if (packed.size() > 0 && !(is_one_thread<Team> && is_dense)) {
      return in_scratch(team, q);
    }
    if constexpr (is_one_thread<Team>) {  // what a GPU cannot pack is not worth code of its own
      const row_form form = out.normalised.row(q).stride == 1 ? scores.form_of(q) : row_form::any;
      if (form == row_form::likelihoods) return write<row_form::likelihoods>(team, q, once<T>{});
      if (form == row_form::ratios) return write<row_form::ratios>(team, q, once<T>{});
    }
    if (!scores.has_multiplicity()) return write<row_form::any>(team, q, once<T>{});
    write<row_form::any>(team, q, [row = scores.row(q)](index_t i) { return row.count(i); });
  }

 private:
  // Flattened: a loop around a call that g++ did not inline, of exp above all, is no vector code.
  template <row_form Form, class Team, class Count>
  [[gnu::flatten]] DRO_HOST_DEVICE void write(Team& team, index_t q, const Count& count) const {
    const scored_row<T, Form> row = scores.template row_as<Form>(q);
    out.write_to(
        team, values_of<Form>(out.normalised.row(q)), q, scores.size(q), scores.traits().covers,
        [&](index_t i) { return row.log_weight(i); }, count, recomputed{});
  }

  template <row_form Form, class Team>
  [[gnu::flatten]] DRO_HOST_DEVICE void write_packed(Team& team, index_t q) const {
    T* const log_weights = team.template scratch<T>();
    packed.template read<Form>(team, q, [&](index_t i, T ratio, T likelihood) { log_weights[i] = ratio + likelihood; });
    team.barrier();
    const auto log_weight = [=](index_t i) { return log_weights[i]; };
    if constexpr (is_one_thread<Team>) {  // a loop that writes while it sums is no vector code
      out.write_to(team, packed_out.row(q), q, packed.size(), scores.traits().covers, log_weight, once<T>{},
                   recomputed{});
    } else {
      out.write_to(team, packed_out.row(q), q, packed.size(), scores.traits().covers, log_weight, once<T>{},
                   log_weights + packed.size());
    }
  }
};

/// Unwritten weights for these draws.
template <backend B, class T>
[[nodiscard]] importance_weights_result<B, T> make_weights(B& b, const scored_draws<T>& scores) {
  const index_t queries = scores.groups().queries();
  const auto row = [&] { return b.template make<T>(queries, 1); };
  return {b.template make<T>(scores.rows(), scores.cols()), row(), row(), row(), row(), row(),
          b.template make<std::int32_t>(queries, 1)};
}

template <backend B, class T>
[[nodiscard]] weight_outputs<T> outputs_of(B& b, importance_weights_result<B, T>& w, const grouping& groups) {
  return {{b.view(w.normalised), groups, "normalised"},
          b.view(w.log_evidence),
          b.view(w.elbo),
          b.view(w.effective_sample_size),
          b.view(w.largest_weight),
          b.view(w.entropy),
          b.view(w.status)};
}

}  // namespace detail

/// Self-normalised importance weights, w_i = p(z_i|x) p(y|x,d_{z_i}) / q(z_i), all in log space: shifting every
/// log-likelihood of a query by a constant changes no weight. A sample of log-weight −inf has weight 0; if all have, or
/// if one is NaN or +inf, the query's status says so. Σ w̄ = 1 within m ulp otherwise.
/// Queues one program; one exp a draw on a GPU, two elsewhere. Source: Shi et al. 2025, section 3; Owen 2013,
/// chapter 9.
template <backend B, class T>
[[nodiscard]] importance_weights_result<B, T> importance_weights(B& b, const scored_draws<T>& scores) {
  auto w = detail::make_weights<B, T>(b, scores);
  b.run(scores.groups().queries(),
        detail::importance_weights_program<T>(scores, detail::outputs_of(b, w, scores.groups())));
  return w;
}

}  // namespace dro

#endif
