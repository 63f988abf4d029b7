// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_OPTIMIZE_OPTIMIZER_HPP
#define DRO_OPTIMIZE_OPTIMIZER_HPP

/// \file
/// Applies an update rule to all parameters of a model. The step counter, the norm of the gradient and the rule's
/// memory live in the backend's memory, so a captured step can be replayed.

#include <cmath>
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
#include <dro/model/concepts.hpp>
#include <dro/optimize/schedule.hpp>
#include <dro/optimize/update_rule.hpp>

namespace dro {

namespace detail {

// Parameters are handled in blocks of this many elements: long enough to vectorise, short enough to share out.
inline constexpr index_t parameter_block = 1024;

[[nodiscard]] constexpr index_t block_count(index_t elements) {
  return (elements + parameter_block - 1) / parameter_block;
}

template <class T>
[[nodiscard]] DRO_HOST_DEVICE T& element(const matrix_view<T>& view, index_t i) {
  const bool is_one_piece = view.col_stride == 1 && (view.rows == 1 || view.row_stride == view.cols);
  return is_one_piece ? view.data[i] : view(i / view.cols, i % view.cols);
}

template <class T>
struct block_squares_program {
  matrix_view<const T> gradient;
  matrix_view<T> squares;  // [1 × all blocks]
  index_t first_block;

  [[nodiscard]] index_t width() const { return parameter_block; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t block) const {
    const index_t begin = block * parameter_block;
    const index_t left = gradient.rows * gradient.cols - begin;
    const T sum = team.template sum<T>(left < parameter_block ? left : parameter_block, [&](index_t i) {
      const T g = element(gradient, begin + i);
      return g * g;
    });
    if (team.rank() == 0) squares(0, first_block + block) = sum;
  }
};

template <class T>
struct norm_program {
  matrix_view<const T> squares;
  matrix_view<T> norm;

  [[nodiscard]] index_t width() const { return squares.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t) const {
    const T sum = team.template sum<T>(squares.cols, [&](index_t i) { return squares(0, i); });
    if (team.rank() == 0) norm(0, 0) = std::sqrt(sum);
  }
};

template <class T, class Rule, class Schedule>
struct update_program {
  matrix_view<T> value, gradient;
  matrix_view<T> state;  // [elements × Rule::states]
  matrix_view<const T> norm;
  matrix_view<const std::uint32_t> counter;
  Rule rule;
  Schedule schedule;
  T largest_norm;

  [[nodiscard]] index_t width() const { return parameter_block; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t block) const {
    const index_t begin = block * parameter_block;
    const index_t left = value.rows * value.cols - begin;
    const std::uint32_t step = counter(0, 0);
    const auto update = rule.template at<T>(rule.learning_rate * schedule(step), step);
    const T length = norm(0, 0);
    // A gradient that is not finite moves nothing: the whole step is passed over.
    const bool finite = length - length == T(0);
    const T shrink = largest_norm > T(0) && length > largest_norm ? largest_norm / length : T(1);
    team.for_each(left < parameter_block ? left : parameter_block, [&](index_t k) {
      const index_t i = begin + k;
      T& g = element(gradient, i);
      if (finite) {
        // What the rule remembers of a parameter is a row of `state`, whose elements need not lie side by side.
        T memory[Rule::states];
        for (index_t s = 0; s < Rule::states; ++s) memory[s] = state(i, s);
        update(element(value, i), shrink * g, memory);
        for (index_t s = 0; s < Rule::states; ++s) state(i, s) = memory[s];
      }
      g = T(0);
    });
  }
};

struct count_step_program {
  matrix_view<std::uint32_t> counter;

  [[nodiscard]] index_t width() const { return 1; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t) const {
    if (team.rank() == 0) ++counter(0, 0);
  }
};

}  // namespace detail

/// Moves all parameters of a `trainable` model uphill by `Rule`, then sets its gradient to 0. Reads nothing back.
template <class Rule, backend B, class T = double, class Schedule = constant_schedule>
class optimizer {
 public:
  /// `largest_norm` > 0 shrinks the gradient of all parameters together to that Euclidean norm (Pascanu et al. 2013).
  /// Throws option_error if the learning rate or the norm is negative or not finite, and for what the rule requires:
  /// rule.require(), if it has that.
  explicit optimizer(B& b, Rule rule = {}, Schedule schedule = {}, double largest_norm = 0)
      : rule_(rule),
        schedule_(schedule),
        largest_norm_(largest_norm),
        counter_(make_filled<std::uint32_t>(b, 1, 1, 0)),
        norm_(make_filled<T>(b, 1, 1, T(0))) {
    if (!(rule.learning_rate >= 0) || !std::isfinite(rule.learning_rate)) {
      throw option_error("learning rate is " + std::to_string(rule.learning_rate) + ", expected 0 or more");
    }
    detail::require_rule("largest norm", largest_norm, 0, detail::no_limit);
    if constexpr (requires { rule.require(); }) rule.require();
  }

  /// One step. The first call fixes the number and shapes of the parameters; a later call with others throws
  /// shape_error. A gradient with a NaN or
  /// infinite element moves nothing, and gradient_norm() shows it.
  /// Queues two programs a parameter matrix and two more.
  template <trainable Model>
  void step(B& b, Model& model) {
    prepare(b, model);
    index_t first_block = 0;
    model.for_each_parameter([&](matrix_view<T>, matrix_view<T> gradient) {
      const index_t blocks = detail::block_count(gradient.rows * gradient.cols);
      b.run(blocks, detail::block_squares_program<T>{gradient, b.view(squares_), first_block});
      first_block += blocks;
    });
    b.run(1, detail::norm_program<T>{b.view(squares_), b.view(norm_)});
    std::size_t number = 0;
    model.for_each_parameter([&](matrix_view<T> value, matrix_view<T> gradient) {
      b.run(
          detail::block_count(value.rows * value.cols),
          detail::update_program<T, Rule, Schedule>{value, gradient, b.view(states_[number]), b.view(norm_),
                                                    b.view(counter_), rule_, schedule_, static_cast<T>(largest_norm_)});
      ++number;
    });
    b.run(1, detail::count_step_program{b.view(counter_)});
  }

  /// Norm of the last step's gradient before clipping, [1 × 1].
  [[nodiscard]] const matrix_t<B, T>& gradient_norm() const { return norm_; }

  /// What a checkpoint has to keep: calls f(name, matrix) for the step counter and each memory matrix. Throws
  /// option_error before the first step unless `prepare` has made the memory: what is restored would be lost.
  template <class F>
  void for_each_state(F&& f) {
    if (!prepared_) {
      throw option_error("optimizer: no memory to save or restore yet, call prepare(backend, model) or step first");
    }
    f("steps", counter_);
    for (std::size_t i = 0; i < states_.size(); ++i) f("state" + std::to_string(i), states_[i]);
  }

  /// Makes the memory for `model` if there is none yet. Throws shape_error if there is and it does not fit.
  template <trainable Model>
  void prepare(B& b, Model& model) {
    const bool first = !prepared_;
    std::vector<matrix_t<B, T>> fresh;  // becomes the memory only if every parameter is in order
    std::size_t number = 0;
    index_t blocks = 0;
    model.for_each_parameter([&](matrix_view<T> value, matrix_view<T> gradient) {
      require_shape(gradient, value.rows, value.cols, "optimizer: gradient");
      const index_t elements = value.rows * value.cols;
      if (first) {
        fresh.push_back(make_filled<T>(b, elements, Rule::states, T(0)));
      } else if (number >= states_.size() || b.view(states_[number]).rows != elements) {
        throw shape_error("optimizer: parameter " + std::to_string(number) + " is " +
                          detail::shape_text(value.rows, value.cols) + ", other than at the first step");
      }
      blocks += detail::block_count(elements);
      ++number;
    });
    if (first) {
      states_ = std::move(fresh);
      squares_ = b.template make<T>(1, blocks);
      prepared_ = true;
    }
    if (number != states_.size()) {
      throw shape_error("optimizer: the model has " + std::to_string(number) + " parameter matrices, it had " +
                        std::to_string(states_.size()));
    }
  }

 private:
  Rule rule_;
  Schedule schedule_;
  double largest_norm_;
  matrix_t<B, std::uint32_t> counter_;
  matrix_t<B, T> norm_;
  matrix_t<B, T> squares_;
  std::vector<matrix_t<B, T>> states_;
  bool prepared_ = false;
};

/// Stochastic gradient ascent, Adagrad and AdamW over backend B.
template <backend B, class T = double, class Schedule = constant_schedule>
using sgd = optimizer<sgd_rule, B, T, Schedule>;
template <backend B, class T = double, class Schedule = constant_schedule>
using adagrad = optimizer<adagrad_rule, B, T, Schedule>;
template <backend B, class T = double, class Schedule = constant_schedule>
using adamw = optimizer<adamw_rule, B, T, Schedule>;

}  // namespace dro

#endif
