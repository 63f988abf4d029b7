// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODEL_ITEM_BATCH_HPP
#define DRO_MODEL_ITEM_BATCH_HPP

/// \file
/// Queries that lie in host memory, one object each, and batches of them.

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <dro/config.hpp>

namespace dro {

/// Some of the items of a list, by position. Copies are cheap (the positions only); the list outlives the batch.
template <class Item>
class item_batch {
 public:
  item_batch(std::span<const Item> items, std::vector<index_t> positions)
      : items_(items), positions_(std::move(positions)) {}

  /// All items, in order.
  explicit item_batch(std::span<const Item> items) : items_(items), positions_(items.size()) {
    for (std::size_t i = 0; i < positions_.size(); ++i) positions_[i] = static_cast<index_t>(i);
  }

  [[nodiscard]] std::size_t size() const { return positions_.size(); }
  [[nodiscard]] const Item& operator[](index_t i) const {
    return items_[static_cast<std::size_t>(positions_[static_cast<std::size_t>(i)])];
  }

 private:
  std::span<const Item> items_;
  std::vector<index_t> positions_;
};

/// A list of items as a source of batches for `em`.
template <class Item>
class item_source {
 public:
  explicit item_source(std::span<const Item> items) : items_(items) {}

  [[nodiscard]] std::size_t size() const { return items_.size(); }
  [[nodiscard]] item_batch<Item> batch(std::span<const index_t> positions) const {
    return item_batch<Item>(items_, std::vector<index_t>(positions.begin(), positions.end()));
  }

 private:
  std::span<const Item> items_;
};

}  // namespace dro

#endif
