// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_TESTS_SUPPORT_MATRICES_HPP
#define DRO_TESTS_SUPPORT_MATRICES_HPP

/// \file
/// Host matrices from lists of numbers, and back.

#include <algorithm>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <vector>

#include <dro/backend/host.hpp>
#include <dro/config.hpp>

#include "support/check.hpp"
#include "support/reference.hpp"

namespace test {

/// A [rows × cols] matrix of `values`, row by row.
template <class T, class Values>
dro::host_matrix<T> matrix(dro::index_t rows, dro::index_t cols, const Values& values) {
  dro::host_matrix<T> m(rows, cols);
  if (std::size(values) != static_cast<std::size_t>(rows * cols)) throw std::logic_error("matrix: wrong size");
  std::transform(std::begin(values), std::end(values), m.data(), [](auto v) { return static_cast<T>(v); });
  return m;
}

template <class T>
dro::host_matrix<T> column(const std::vector<T>& values) {
  return matrix<T>(static_cast<dro::index_t>(values.size()), 1, values);
}

/// [rows × cols] numbers in [low, high) that float holds exactly.
template <class T>
dro::host_matrix<T> random_matrix(dro::index_t rows, dro::index_t cols, double low, double high, std::uint64_t seed) {
  dro::host_matrix<T> m(rows, cols);
  numbers next(seed);
  for (dro::index_t i = 0; i < rows * cols; ++i) m.data()[i] = static_cast<T>(next.between(low, high));
  return m;
}

/// The elements, row by row.
template <class T>
std::span<T> elements(dro::host_matrix<T>& m) {
  return {m.data(), static_cast<std::size_t>(m.rows() * m.cols())};
}
template <class T>
std::span<const T> elements(const dro::host_matrix<T>& m) {
  return {m.data(), static_cast<std::size_t>(m.rows() * m.cols())};
}

template <class T>
std::vector<real> row(const dro::host_matrix<T>& m, dro::index_t i) {
  return std::vector<real>(m.data() + i * m.cols(), m.data() + (i + 1) * m.cols());
}

inline ranking ranking_of(const dro::host_matrix<dro::document_t>& rankings, dro::index_t draw) {
  return ranking(rankings.data() + draw * rankings.cols(), rankings.data() + (draw + 1) * rankings.cols());
}

/// Rankings as the rows of a matrix.
inline dro::host_matrix<dro::document_t> ranking_matrix(const std::vector<ranking>& list) {
  dro::host_matrix<dro::document_t> m(static_cast<dro::index_t>(list.size()),
                                      static_cast<dro::index_t>(list.empty() ? 0 : list.front().size()));
  auto* out = m.data();
  for (const ranking& z : list) out = std::copy(z.begin(), z.end(), out);
  return m;
}

/// Same shape and the same elements, bit for bit apart from the sign of 0.
template <class T>
bool same(const dro::host_matrix<T>& a, const dro::host_matrix<T>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() && std::equal(a.data(), a.data() + a.rows() * a.cols(), b.data());
}

}  // namespace test

#endif
