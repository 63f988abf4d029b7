// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EM_TRAINING_LOOP_HPP
#define DRO_EM_TRAINING_LOOP_HPP

/// \file
/// Iterations over shuffled batches, with callbacks, that can stop anywhere and go on from there.

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/random/key.hpp>
#include <dro/random/noise.hpp>

namespace dro {

struct loop_options {
  index_t iterations = 5;   ///< passes over the queries
  index_t batch_size = 16;  ///< queries in a step
  std::uint64_t seed = 1;   ///< of the shuffling; a run of em without an em_run seeds its draws with it, too
  /// Most queries that are worked on at once. A larger batch is gone through in pieces, whose gradients add up before
  /// the models move: less memory for the same step, but for rounding. 0: the whole batch.
  index_t piece_size = 0;
};

/// Queries of a batch that are worked on at once.
struct batch_piece {
  std::span<const index_t> positions;  ///< their numbers in the source
  index_t first = 0;                   ///< number of the first of them in the batch
  index_t batch_size = 0;              ///< queries of the whole batch
  [[nodiscard]] bool is_last() const { return first + static_cast<index_t>(positions.size()) == batch_size; }
};

/// Where a run stands: the next step to be taken. A checkpoint keeps it.
struct loop_position {
  index_t iteration = 0;  ///< completed iterations
  index_t batch = 0;      ///< completed batches of the current one
  friend bool operator==(const loop_position&, const loop_position&) = default;
};

/// What callbacks are told.
struct loop_progress {
  loop_position position;  ///< after the step or iteration that was just completed
  index_t iterations = 0;  ///< in all
  index_t batches = 0;     ///< in an iteration
  index_t queries = 0;     ///< in an iteration
  /// Completed steps over all steps, in [0, 1].
  [[nodiscard]] double fraction() const {
    const auto all = static_cast<double>(iterations) * static_cast<double>(batches);
    return all == 0 ? 1.0
                    : (static_cast<double>(position.iteration) * static_cast<double>(batches) +
                       static_cast<double>(position.batch)) /
                          all;
  }
};

/// What a callback answers.
enum class loop_control {
  proceed,
  stop,  ///< end after this step; the position tells where to go on
};

/// A list of queries that can be cut into batches: size(), and batch(positions), which gives what the models take.
template <class S>
concept query_source = requires(const S& s, std::span<const index_t> positions) {
  { std::size(s) } -> std::convertible_to<std::size_t>;
  s.batch(positions);
};

namespace detail {

// The shuffling has steps of its own, apart from those of draws, which count from 0.
inline constexpr std::uint32_t shuffle_stream = 0xFFFFFFFFU;

template <class R>
inline constexpr bool is_answer = std::same_as<R, void> || std::same_as<R, loop_control>;

// Calls the member if there is one. What it returns is void or loop_control, else a `return stop;` would be lost.
template <class Callback>
loop_control call_batch(Callback& callback, const loop_progress& progress) {
  if constexpr (requires { callback.on_batch(progress); }) {
    using answer = decltype(callback.on_batch(progress));
    static_assert(is_answer<answer>, "dro: a callback's on_batch returns void or dro::loop_control");
    if constexpr (std::same_as<answer, loop_control>) return callback.on_batch(progress);
    callback.on_batch(progress);
  }
  return loop_control::proceed;
}

template <class Callback, class Summary>
loop_control call_iteration(Callback& callback, const loop_progress& progress, const Summary& summary) {
  if constexpr (requires { callback.on_iteration(progress, summary); }) {
    using answer = decltype(callback.on_iteration(progress, summary));
    static_assert(is_answer<answer>, "dro: a callback's on_iteration returns void or dro::loop_control");
    if constexpr (std::same_as<answer, loop_control>) return callback.on_iteration(progress, summary);
    callback.on_iteration(progress, summary);
  }
  return loop_control::proceed;
}

/// Whether training_loop can call any member of a callback that is told `Summary`.
template <class Callback, class Summary>
concept loop_callback = requires(Callback& c, const loop_progress& progress) {
  c.on_batch(progress);
}
|| requires(Callback& c, const loop_progress& progress, const Summary& summary) { c.on_iteration(progress, summary); };

}  // namespace detail

/// The order in which iteration `iteration` visits `count` queries: a Fisher–Yates shuffle that depends on the seed,
/// the iteration and the count alone.
[[nodiscard]] inline std::vector<index_t> shuffled_order(index_t count, std::uint64_t seed, index_t iteration) {
  std::vector<index_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), index_t{0});
  const random_key key{seed, detail::shuffle_stream};
  for (index_t i = count - 1; i > 0; --i) {
    const std::uint32_t word =
        random_word(key, static_cast<std::uint32_t>(iteration), 0, static_cast<std::uint32_t>(i));
    const auto j = noise::uniform_index(word, static_cast<std::uint32_t>(i + 1));
    std::swap(order[static_cast<std::size_t>(i)], order[j]);
  }
  return order;
}

/// Calls `step(batch)`, or `step(batch, positions)` if it takes the numbers of the batch's queries in the source, for
/// each batch of each iteration that is still to come after `position`, which is moved on, and `finish()` after the
/// last batch of each, whose result is given to the callbacks.
///
/// A step that takes a batch_piece, `step(piece_of_batch, const batch_piece&)`, is called for each piece of a batch in
/// turn, of `piece_size` queries but for the last: it adds to gradients and divides by `batch_size`, and moves
/// parameters and random step on with the last piece alone.
///
/// A callback has any of these members; the ones that return loop_control may stop the run:
///     on_batch(const loop_progress&)                          after each step
///     on_iteration(const loop_progress&, const Summary&)      after each iteration, with what finish() returned
/// Returns true if all iterations are done, false if a callback stopped the run before.
/// Throws option_error if an option is out of range, there are no queries, or there are to be pieces for a step that
/// takes none.
template <query_source Source, class Step, class Finish, class... Callbacks>
bool training_loop(const Source& source, const loop_options& options, loop_position& position, Step&& step,
                   Finish&& finish, Callbacks&&... callbacks) {
  static_assert((detail::loop_callback<Callbacks, std::remove_cvref_t<std::invoke_result_t<Finish&>>> && ...),
                "dro: a callback needs on_batch(const loop_progress&) or on_iteration(const loop_progress&, const "
                "Summary&); see dro/em/training_loop.hpp");
  const auto count = static_cast<index_t>(std::size(source));
  if (count < 1) throw option_error("training: there are no queries");
  if (options.iterations < 0) throw option_error("iterations is " + std::to_string(options.iterations));
  if (options.batch_size < 1) throw option_error("batch size is " + std::to_string(options.batch_size));
  if (options.piece_size < 0) throw option_error("piece size is " + std::to_string(options.piece_size));
  using batch_type = decltype(source.batch(std::span<const index_t>()));
  constexpr bool takes_pieces = std::invocable<Step&, batch_type, const batch_piece&>;
  if (!takes_pieces && options.piece_size > 0 && options.piece_size < options.batch_size) {
    throw option_error("piece size is " + std::to_string(options.piece_size) + ", but this step takes whole batches");
  }
  const index_t batches = (count - 1) / options.batch_size + 1;
  if (position.iteration < 0 || position.batch < 0 || position.batch >= batches) {
    throw option_error("training: no position " + std::to_string(position.iteration) + ":" +
                       std::to_string(position.batch) + " in iterations of " + std::to_string(batches) + " batches");
  }
  bool stop = false;
  while (position.iteration < options.iterations && !stop) {
    const auto order = shuffled_order(count, options.seed, position.iteration);
    while (position.batch < batches && !stop) {
      const index_t begin = position.batch * options.batch_size;
      const index_t size = std::min(options.batch_size, count - begin);
      const std::span<const index_t> positions(order.data() + begin, static_cast<std::size_t>(size));
      if constexpr (takes_pieces) {
        const index_t most = options.piece_size > 0 ? std::min(options.piece_size, size) : size;
        for (index_t first = 0; first < size; first += most) {
          const auto length = static_cast<std::size_t>(std::min(most, size - first));
          const batch_piece piece{positions.subspan(static_cast<std::size_t>(first), length), first, size};
          step(source.batch(piece.positions), piece);
        }
      } else if constexpr (std::invocable<Step&, batch_type, std::span<const index_t>>) {
        step(source.batch(positions), positions);
      } else {
        step(source.batch(positions));
      }
      ++position.batch;
      // The last step of an iteration belongs with what finish() does: a run does not stop between the two.
      if (position.batch == batches) break;
      [[maybe_unused]] const loop_progress progress{position, options.iterations, batches, count};
      ((stop = detail::call_batch(callbacks, progress) == loop_control::stop || stop), ...);
    }
    if (position.batch < batches) break;
    position = {position.iteration + 1, 0};
    [[maybe_unused]] const auto summary = finish();
    [[maybe_unused]] const loop_progress progress{position, options.iterations, batches, count};
    ((stop = detail::call_batch(callbacks, progress) == loop_control::stop || stop), ...);
    ((stop = detail::call_iteration(callbacks, progress, summary) == loop_control::stop || stop), ...);
  }
  return position.iteration >= options.iterations;
}

}  // namespace dro

#endif
