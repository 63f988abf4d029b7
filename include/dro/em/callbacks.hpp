// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EM_CALLBACKS_HPP
#define DRO_EM_CALLBACKS_HPP

/// \file
/// Ready-made callbacks for training_loop and em. Each is a small value; give as many as you like.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include <dro/config.hpp>
#include <dro/em/totals.hpp>
#include <dro/em/training_loop.hpp>
#include <dro/error.hpp>

namespace dro::callback {

/// Shows how far the run is. On a terminal one line is rewritten, with the time left; elsewhere one plain line is
/// written for each tenth of the run.
class progress {
 public:
  /// `out` is written to; `is_terminal` says whether lines can be rewritten there.
  progress(std::FILE* out, bool is_terminal, std::string label = "training")
      : out_(out), is_terminal_(is_terminal), label_(std::move(label)), start_(clock::now()) {}

  void on_batch(const loop_progress& p) {
    const double done = p.fraction();
    if (first_ < 0) first_ = done;  // a resumed run has not spent time on what it did not do
    const double seconds = std::chrono::duration<double>(clock::now() - start_).count();
    const double part = done - first_;
    const bool last = done >= 1.0;
    if (is_terminal_) {
      if (!last && seconds - shown_ < 0.1) return;
      shown_ = seconds;
      constexpr int width = 30;
      const int filled = static_cast<int>(done * width);
      std::fprintf(out_, "\r%s [%.*s%.*s] %3.0f %%  iteration %td of %td", label_.c_str(), filled, bar, width - filled,
                   gap, 100 * done, std::min(p.position.iteration + 1, p.iterations), p.iterations);
      if (!last && part > 0) std::fprintf(out_, ", %.0f s left  ", seconds * (1 - done) / part);
      if (last) std::fprintf(out_, ", %.1f s          \n", seconds);
    } else {
      const int tenth = static_cast<int>(done * 10);
      if (tenth == tenth_) return;
      tenth_ = tenth;
      std::fprintf(out_, "%s %d %%, %.1f s\n", label_.c_str(), tenth * 10, seconds);
    }
    std::fflush(out_);
  }

 private:
  using clock = std::chrono::steady_clock;
  static constexpr const char* bar = "##############################";
  static constexpr const char* gap = "..............................";

  std::FILE* out_;
  bool is_terminal_;
  std::string label_;
  clock::time_point start_;
  double first_ = -1;
  double shown_ = 0;
  int tenth_ = 0;
};

/// Writes one line of diagnostics for each iteration.
class log {
 public:
  explicit log(std::FILE* out) : out_(out) {}

  void on_iteration(const loop_progress& p, const step_summary& s) {
    std::fprintf(out_, "iteration %td of %td: evidence %.4f, ELBO %.4f, ESS %.2f, weight variance %.3f",
                 p.position.iteration, p.iterations, s.evidence, s.elbo, s.effective_sample_size, s.weight_variance);
    if (s.flagged() > 0) std::fprintf(out_, ", %lld queries flagged", static_cast<long long>(s.flagged()));
    std::fprintf(out_, "\n");
    std::fflush(out_);
  }

 private:
  std::FILE* out_;
};

/// Stops the run when a score has not risen by more than `least_gain` for `patience` iterations.
class early_stop {
 public:
  /// `score()` is asked after each iteration; larger is better (F1 on held-out queries, for example).
  early_stop(std::function<double()> score, index_t patience, double least_gain = 0)
      : score_(std::move(score)), patience_(patience), least_gain_(least_gain) {
    if (patience < 1)
      throw option_error("early_stop: patience is " + std::to_string(patience) + ", expected 1 or more");
  }

  template <class Summary>
  loop_control on_iteration(const loop_progress&, const Summary&) {
    const double score = score_();
    if (score > best_ + least_gain_) {
      best_ = score;
      waited_ = 0;
    } else {
      ++waited_;
    }
    return waited_ >= patience_ ? loop_control::stop : loop_control::proceed;
  }

  [[nodiscard]] double best() const { return best_; }

 private:
  std::function<double()> score_;
  index_t patience_;
  double least_gain_;
  double best_ = -std::numeric_limits<double>::infinity();
  index_t waited_ = 0;
};

/// Calls `save()` after every `every` steps, counted within an iteration, and after each iteration.
class checkpoint {
 public:
  checkpoint(std::function<void()> save, index_t every) : save_(std::move(save)), every_(every) {
    if (every < 1) throw option_error("checkpoint: every is " + std::to_string(every) + ", expected 1 or more");
  }

  void on_batch(const loop_progress& p) {
    if (p.position.batch != 0 && p.position.batch % every_ == 0) save_();
  }
  template <class Summary>
  void on_iteration(const loop_progress&, const Summary&) {
    save_();
  }

 private:
  std::function<void()> save_;
  index_t every_;
};

/// Stops the run after the current step when `wanted()` says so, for example on a signal.
class stop_when {
 public:
  explicit stop_when(std::function<bool()> wanted) : wanted_(std::move(wanted)) {}
  loop_control on_batch(const loop_progress&) { return wanted_() ? loop_control::stop : loop_control::proceed; }

 private:
  std::function<bool()> wanted_;
};

}  // namespace dro::callback

#endif
