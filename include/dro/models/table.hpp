// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_TABLE_HPP
#define DRO_MODELS_TABLE_HPP

/// \file
/// Models whose parameters are a table, one entry for each thing they can say. They can express any distribution of
/// their family, so the mathematics can be seen, and tested, without a learner's limits in the way.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/draws.hpp>
#include <dro/ranking/enumerate.hpp>
#include <dro/ranking/plackett_luce.hpp>

namespace dro::models {

/// Consecutive rows of a table: the queries first, first + 1, …
struct table_rows {
  index_t first = 0;
  index_t count = 0;
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(count); }
};

namespace detail {

template <class T>
struct add_rows_program {
  matrix_view<const T> source;
  matrix_view<T> target;
  bool keep;  // whether what is in the target stays

  [[nodiscard]] index_t width() const { return target.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    team.for_each(target.cols, [&](index_t j) { target(row, j) = (keep ? target(row, j) : T(0)) + source(row, j); });
  }
};

}  // namespace detail

/// Plackett–Luce selector whose parameters are the scores themselves, [queries × documents].
template <backend B, class T = double>
class table_selector {
 public:
  using scalar_type = T;

  /// `scores` [queries × documents], nats. Copied to the backend.
  table_selector(B& b, const host_matrix<T>& scores)
      : backend_(&b), scores_(write(b, scores)), gradient_(make_filled<T>(b, scores.rows(), scores.cols(), T(0))) {}

  [[nodiscard]] const matrix_t<B, T>& scores() const { return scores_; }
  [[nodiscard]] matrix_t<B, T>& scores() { return scores_; }
  [[nodiscard]] const matrix_t<B, T>& gradient() const { return gradient_; }

  [[nodiscard]] draws<B, T> draw(B& b, const table_rows& rows, const draw_options& options,
                                 const random_source& random) const {
    return draw_plackett_luce(b, part(std::as_const(b).view(scores_), rows), random, options);
  }

  [[nodiscard]] matrix_t<B, T> log_prob(B& b, const table_rows& rows, const draws<B, T>& z) const {
    auto out = b.template make<T>(z.groups().total(), 1);
    plackett_luce_log_prob(b, part(std::as_const(b).view(scores_), rows), std::as_const(b).view(z.rankings()),
                           z.groups(), b.view(out));
    return out;
  }

  void accumulate_gradient(B& b, const table_rows& rows, const draws<B, T>& z, const matrix_t<B, T>& coefficients) {
    accumulate_plackett_luce_gradient(b, part(std::as_const(b).view(scores_), rows),
                                      std::as_const(b).view(z.rankings()), z.groups(), coefficients,
                                      part(b.view(gradient_), rows));
  }

  /// The scores of these queries, [queries × documents].
  [[nodiscard]] matrix_t<B, T> scores(B& b, const table_rows& rows) const {
    const auto source = part(std::as_const(b).view(scores_), rows);
    auto out = b.template make<T>(source.rows, source.cols);
    b.run(source.rows, detail::add_rows_program<T>{source, b.view(out), false});
    return out;
  }

  void accumulate_score_gradient(B& b, const table_rows& rows, const matrix_t<B, T>& d_scores) {
    const auto target = part(b.view(gradient_), rows);
    require_shape(std::as_const(b).view(d_scores), target.rows, target.cols, "table_selector: d_scores");
    b.run(target.rows, detail::add_rows_program<T>{std::as_const(b).view(d_scores), target, true});
  }

  template <class F>
  void for_each_parameter(F&& f) {
    f(backend_->view(scores_), backend_->view(gradient_));
  }

 private:
  template <class U>
  static matrix_view<U> part(matrix_view<U> all, const table_rows& rows) {
    if (rows.first < 0 || rows.count < 0 || rows.count > all.rows || rows.first > all.rows - rows.count) {
      throw shape_error("table_selector: " + std::to_string(rows.count) + " rows from " + std::to_string(rows.first) +
                        " on, of " + std::to_string(all.rows));
    }
    all.data += rows.first * all.row_stride;
    all.rows = rows.count;
    return all;
  }

  B* backend_;
  matrix_t<B, T> scores_;
  matrix_t<B, T> gradient_;
};

namespace detail {

template <class T>
struct table_likelihood_program {
  matrix_view<const T> logits;
  matrix_view<const std::int32_t> answers;
  matrix_view<const document_t> rankings;
  matrix_view<T> out;
  grouping groups;
  index_t documents, lists, first;

  [[nodiscard]] index_t width() const { return logits.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    for (index_t i = 0; i < groups.size(q); ++i) {
      const index_t draw = groups.begin(q) + i;
      const index_t code = ranking_code(rankings, draw, documents);
      T value = -std::numeric_limits<T>::infinity();
      if (code >= 0) {
        const index_t row = (first + q) * lists + code;
        const T largest = team.max(logits.cols, value, [&](index_t a) { return logits(row, a); });
        const T sum = team.template sum<T>(logits.cols, [&](index_t a) { return math::exp(logits(row, a) - largest); });
        value = logits(row, answers(first + q, 0)) - largest - math::log(sum);
      }
      if (team.rank() == 0) out(draw, 0) = value;
    }
  }
};

template <class T>
struct table_likelihood_gradient_program {
  matrix_view<const T> logits;
  matrix_view<const std::int32_t> answers;
  matrix_view<const document_t> rankings;
  grouped_view<const T> coefficients;
  matrix_view<T> gradient;
  grouping groups;
  index_t documents, lists, first;

  [[nodiscard]] index_t width() const { return logits.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    for (index_t i = 0; i < groups.size(q); ++i) {
      const T c = coefficients(q, i);
      const index_t code = ranking_code(rankings, groups.begin(q) + i, documents);
      if (c == T(0) || code < 0) continue;
      const index_t row = (first + q) * lists + code;
      const T largest =
          team.max(logits.cols, -std::numeric_limits<T>::infinity(), [&](index_t a) { return logits(row, a); });
      const T sum = team.template sum<T>(logits.cols, [&](index_t a) { return math::exp(logits(row, a) - largest); });
      team.for_each(logits.cols, [&](index_t a) {
        const T hit = a == answers(first + q, 0) ? T(1) : T(0);
        gradient(row, a) += c * (hit - math::exp(logits(row, a) - largest) / sum);
      });
      team.barrier();
    }
  }
};

}  // namespace detail

/// Generator over a fixed set of answers whose parameters are a logit for each query, ranking and answer,
/// [queries · n!/(n−K)! × answers], rankings in the order of enumerate_rankings: p(y|x,d_z) is the softmax of a row.
template <backend B, class T = double>
class table_generator {
 public:
  /// `logits` as above; `answers` [queries × 1], the right answer's column of each query.
  /// Throws shape_error if logits has other rows than queries × rankings.
  table_generator(B& b, index_t documents, index_t select, const host_matrix<T>& logits,
                  const host_matrix<std::int32_t>& answers)
      : backend_(&b),
        documents_(documents),
        select_(select),
        lists_(ranking_count(documents, select)),
        logits_(write(b, logits)),
        gradient_(make_filled<T>(b, logits.rows(), logits.cols(), T(0))),
        answers_(write(b, answers)) {
    if (logits.rows() != lists_ * answers.rows()) {
      throw shape_error("table_generator: logits is " + dro::detail::shape_text(logits.rows(), logits.cols()) +
                        ", expected " + std::to_string(lists_ * answers.rows()) +
                        " rows, one for each query and ranking");
    }
    for (index_t q = 0; q < answers.rows(); ++q) {
      if (answers(q, 0) < 0 || answers(q, 0) >= logits.cols()) {
        throw shape_error("table_generator: the answer of query " + std::to_string(q) + " is " +
                          std::to_string(answers(q, 0)) + ", expected 0 to " + std::to_string(logits.cols() - 1));
      }
    }
  }

  [[nodiscard]] const matrix_t<B, T>& gradient() const { return gradient_; }

  [[nodiscard]] matrix_t<B, T> log_likelihood(B& b, const table_rows& rows, const draws<B, T>& z) const {
    check(b, rows, z);
    const B& view = b;
    auto out = b.template make<T>(z.groups().total(), 1);
    b.run(z.groups().queries(),
          detail::table_likelihood_program<T>{view.view(logits_), view.view(answers_), view.view(z.rankings()),
                                              b.view(out), z.groups(), documents_, lists_, rows.first});
    return out;
  }

  void accumulate_gradient(B& b, const table_rows& rows, const draws<B, T>& z, const matrix_t<B, T>& coefficients) {
    check(b, rows, z);
    const B& view = b;
    b.run(z.groups().queries(),
          detail::table_likelihood_gradient_program<T>{view.view(std::as_const(logits_)),
                                                       view.view(answers_),
                                                       view.view(z.rankings()),
                                                       {view.view(coefficients), z.groups(), "coefficients"},
                                                       b.view(gradient_),
                                                       z.groups(),
                                                       documents_,
                                                       lists_,
                                                       rows.first});
  }

  template <class F>
  void for_each_parameter(F&& f) {
    f(backend_->view(logits_), backend_->view(gradient_));
  }

 private:
  void check(B& b, const table_rows& rows, const draws<B, T>& z) const {
    require_queries(rows, z.groups(), "table_generator");
    const index_t known = std::as_const(b).view(answers_).rows;
    if (rows.first < 0 || rows.count < 0 || rows.count > known || rows.first > known - rows.count ||
        z.select() != select_) {
      throw shape_error("table_generator: " + std::to_string(rows.count) + " rows from " + std::to_string(rows.first) +
                        " on, of " + std::to_string(known) + ", rankings of " + std::to_string(z.select()) +
                        " documents, expected " + std::to_string(select_));
    }
  }

  B* backend_;
  index_t documents_;
  index_t select_;
  index_t lists_;
  matrix_t<B, T> logits_;
  matrix_t<B, T> gradient_;
  matrix_t<B, std::int32_t> answers_;
};

}  // namespace dro::models

#endif
