// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODEL_HOST_GENERATOR_HPP
#define DRO_MODEL_HOST_GENERATOR_HPP

/// \file
/// Makes a `dro::generator` of something that scores one list of documents at a time in ordinary C++.

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/ranking/draws.hpp>

namespace dro {

/// A gradient of many parameters of which one query touches few: a dense array and the list of what was touched.
class sparse_gradient {
 public:
  explicit sparse_gradient(std::size_t parameters = 0) : values_(parameters, 0.0), is_touched_(parameters, 0) {}

  void add(std::uint32_t parameter, double value) {
    if (is_touched_[parameter] == 0) {
      is_touched_[parameter] = 1;
      touched_.push_back(parameter);
    }
    values_[parameter] += value;
  }

  struct entry {
    std::uint32_t parameter;
    double value;
  };
  /// The touched parameters in the order of first touch, with their values; everything is 0 again afterwards.
  [[nodiscard]] std::vector<entry> take() {
    std::vector<entry> entries;
    entries.reserve(touched_.size());
    for (const std::uint32_t parameter : touched_) {
      entries.push_back({parameter, values_[parameter]});
      values_[parameter] = 0.0;
      is_touched_[parameter] = 0;
    }
    touched_.clear();
    return entries;
  }

 private:
  std::vector<double> values_;
  std::vector<char> is_touched_;
  std::vector<std::uint32_t> touched_;
};

/// Scores the answers of one query given one list of documents.
///
///     struct workspace;                                        // default-constructible, one for each thread
///     static constexpr bool order_free;                        // whether the order of the list has no say
///     double log_likelihood(const Query&, std::span<const document_t> z, workspace&) const;           // nats
///     void accumulate_gradient(const Query&, std::span<const document_t> z, double coefficient, sparse_gradient&,
///                              workspace&) const;                       // += coefficient ∇ log p(y|x,d_z)
///     std::span<double> parameters();
template <class S, class Query>
concept list_scorer = requires(const S& s, S& m, const Query& query, std::span<const document_t> z,
                               sparse_gradient& gradient, typename S::workspace& workspace) {
  { S::order_free } -> std::convertible_to<bool>;
  { s.log_likelihood(query, z, workspace) } -> std::convertible_to<double>;
  s.accumulate_gradient(query, z, 1.0, gradient, workspace);
  { m.parameters() } -> std::convertible_to<std::span<double>>;
};

namespace detail {

/// Objects that are costly to make, lent to whoever needs one.
template <class T>
class lending_pool {
 public:
  template <class Make, class Use>
  void with(Make&& make, Use&& use) {
    std::unique_ptr<T> object = take();
    if (!object) object = std::make_unique<T>(make());
    use(*object);
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(object));
  }

 private:
  std::unique_ptr<T> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return nullptr;
    std::unique_ptr<T> object = std::move(free_.back());
    free_.pop_back();
    return object;
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<T>> free_;
};

}  // namespace detail

/// A `dro::generator` for backends that run on the host. A list that was drawn several times for a query is scored
/// once; where the scorer is order-free, so are lists of the same documents. `Queries` is a view, cheap to copy, with
/// size() and operator[](index_t). The scorer is owned and must stay where it is while work is queued on a backend.
/// Results do not depend on the number of threads: gradients are summed over queries in their order.
template <class Scorer>
class host_generator {
 public:
  explicit host_generator(Scorer scorer)
      : scorer_(std::move(scorer)),
        gradient_(scorer_.parameters().size(), 0.0),
        pool_(std::make_unique<detail::lending_pool<space>>()) {}

  [[nodiscard]] Scorer& scorer() { return scorer_; }
  [[nodiscard]] const Scorer& scorer() const { return scorer_; }

  /// log p(y|x,d_z) of each draw, [draws × 1], nats; −inf for a list with a place that holds no document.
  template <host_executed B, class Queries>
  [[nodiscard]] matrix_t<B, double> log_likelihood(B& b, const Queries& queries, const draws<B, double>& z) const {
    const grouping groups = z.groups();
    require_queries(queries, groups, "host_generator");
    auto out = b.template make<double>(groups.total(), 1);
    b.run(groups.queries(),
          [this, queries, groups, rankings = b.view(z.rankings()), p = b.view(out)](auto&, index_t q) {
            pool_->with(make_space(), [&](space& s) {
              collect(rankings, groups, q, s);
              for (distinct_list& list : s.lists) {
                if (list.complete) list.value = scorer_.log_likelihood(queries[q], list.documents, s.workspace);
              }
              for (index_t i = 0; i < groups.size(q); ++i) {
                const distinct_list& list = s.lists[s.list_of[static_cast<std::size_t>(i)]];
                p(groups.begin(q) + i, 0) = list.complete ? list.value : -std::numeric_limits<double>::infinity();
              }
            });
          });
    return out;
  }

  /// Adds Σ_i c_i ∇ log p(y|x,d_{z_i}) to the gradient.
  template <host_executed B, class Queries>
  void accumulate_gradient(B& b, const Queries& queries, const draws<B, double>& z,
                           const matrix_t<B, double>& coefficients) {
    const grouping groups = z.groups();
    require_queries(queries, groups, "host_generator");
    const grouped_view<const double> c(b.view(coefficients), groups, "accumulate_gradient: coefficients");
    auto parts = std::make_shared<std::vector<std::vector<sparse_gradient::entry>>>(std::size(queries));
    b.run(groups.queries(), [this, queries, groups, c, parts, rankings = b.view(z.rankings())](auto&, index_t q) {
      pool_->with(make_space(), [&](space& s) {
        collect(rankings, groups, q, s);
        for (index_t i = 0; i < groups.size(q); ++i) s.lists[s.list_of[static_cast<std::size_t>(i)]].value += c(q, i);
        for (const distinct_list& list : s.lists) {
          if (!list.complete || list.value == 0) continue;
          scorer_.accumulate_gradient(queries[q], list.documents, list.value, s.gradient, s.workspace);
        }
        (*parts)[static_cast<std::size_t>(q)] = s.gradient.take();
      });
    });
    b.run(1, [this, parts](auto&, index_t) {
      for (const auto& part : *parts) {
        for (const auto& entry : part) gradient_[entry.parameter] += entry.value;
      }
    });
  }

  template <class F>
  void for_each_parameter(F&& f) {
    const std::span<double> values = scorer_.parameters();
    const auto count = static_cast<index_t>(values.size());
    f(row_major_view(values.data(), 1, count), row_major_view(gradient_.data(), 1, count));
  }

 private:
  struct distinct_list {
    std::vector<document_t> documents;
    double value = 0;
    bool complete = true;
  };
  // What a thread needs for one query.
  struct space {
    sparse_gradient gradient;
    typename Scorer::workspace workspace;
    std::vector<distinct_list> lists;
    std::vector<std::size_t> list_of;
  };

  [[nodiscard]] auto make_space() const {
    return [this] { return space{sparse_gradient(gradient_.size()), {}, {}, {}}; };
  }

  // The distinct lists among the draws of query q, and which of them each draw is.
  static void collect(const matrix_view<const document_t>& rankings, const grouping& groups, index_t q, space& s) {
    s.lists.clear();
    s.list_of.clear();
    for (index_t i = 0; i < groups.size(q); ++i) {
      distinct_list list;
      for (index_t t = 0; t < rankings.cols; ++t) list.documents.push_back(rankings(groups.begin(q) + i, t));
      if (Scorer::order_free) std::sort(list.documents.begin(), list.documents.end());
      list.complete = std::find(list.documents.begin(), list.documents.end(), no_document) == list.documents.end();
      const auto known = std::find_if(s.lists.begin(), s.lists.end(),
                                      [&](const distinct_list& other) { return other.documents == list.documents; });
      s.list_of.push_back(static_cast<std::size_t>(known - s.lists.begin()));
      if (known == s.lists.end()) s.lists.push_back(std::move(list));
    }
  }

  Scorer scorer_;
  std::vector<double> gradient_;
  std::unique_ptr<detail::lending_pool<space>> pool_;
};

}  // namespace dro

#endif
