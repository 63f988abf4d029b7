// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_ROW_PLAN_HPP
#define DRO_BACKEND_CUDA_ROW_PLAN_HPP

/// \file
/// How many threads of a GPU share a row, and where the row's scratch memory lies. Plain arithmetic.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include <dro/config.hpp>

namespace dro::detail::cuda {

/// What a device offers. Memory in bytes.
struct device_limits {
  int processors = 0;                ///< multiprocessors
  int threads = 0;                   ///< resident threads of one multiprocessor
  std::size_t shared = 0;            ///< shared memory of one multiprocessor
  std::size_t shared_reserved = 0;   ///< of it, taken by the system for each block
  std::size_t shared_per_block = 0;  ///< the most a kernel may be given
};

/// What a compiled kernel leaves of it.
struct kernel_limits {
  int threads = 0;         ///< the most threads of one block, by the registers the kernel takes
  std::size_t shared = 0;  ///< the most shared memory for scratch in one block
  bool waits = false;      ///< whether it waits by itself for the kernel queued before it
};

/// How `rows` rows are laid over a device: blocks of `block` threads, teams of `team` threads, a row at a time for each
/// team, and then the row that lies as many rows further on as there are teams.
struct row_plan {
  int team = 32;            ///< threads of a team: 1, 2, 4, …, 32, or the whole block
  int block = 128;          ///< threads of a block
  std::uint32_t grid = 0;   ///< blocks
  std::size_t scratch = 0;  ///< bytes from the scratch of a team to that of the next one
  bool shared = true;       ///< whether scratch lies in shared memory; otherwise in a workspace of teams() × scratch

  [[nodiscard]] int teams_of_block() const { return block / team; }
  [[nodiscard]] std::size_t teams() const { return std::size_t{grid} * static_cast<std::size_t>(teams_of_block()); }
};

/// The plan for `rows` > 0 rows of a program whose widest loop has `width` items and whose rows take `scratch_bytes`.
///
/// - Few wide rows (at least 256 items, and so few rows that a warp for each would not fill the device): a block for
///   each, of as many threads as fill the device twice, a thread for each item and what the kernel allows at most. With
///   scratch memory, which a block would have to share, only up to two rows for each multiprocessor.
/// - Otherwise a thread for each item up to a warp. Where there are more rows than fill the device twice, fewer: the
///   most that leave no more than a fifth of the threads without an item, since then only the work in all counts. (20
///   items: 8 threads and 3 rounds, not 32 threads.)
/// - Fewer, while a thread has less than `items_of_thread` items, as long as the threads of all rows are a third of
///   what the device holds, which is about what the registers of large kernels leave room for. What threads do for each
///   other is work that one thread alone does not have.
/// - Scratch lies in shared memory if at all possible. Teams are made larger, up to a warp, while so few of them fit
///   that a multiprocessor would be less than a third full. Beyond that it lies in device memory, for as many teams as
///   256 MiB hold.
///
/// `scratch_bytes(team)` is what a row takes from a team of so many threads.
///
/// Scratch of teams smaller than a warp lies an odd number of words of `scratch_word` bytes apart, 4 to 32, which puts
/// the same element of neighbouring teams into different banks if it has that size.
template <class ScratchBytes>
[[nodiscard]] row_plan plan_rows(const device_limits& device, const kernel_limits& kernel, index_t rows, index_t width,
                                 const ScratchBytes& scratch_bytes, index_t items_of_thread = 1,
                                 std::size_t scratch_word = 8) {
  constexpr int warp = 32;
  constexpr index_t wide = 256;
  constexpr std::size_t workspace_bytes = std::size_t{256} << 20;
  const auto power_of_two = [](index_t n) { return static_cast<int>(std::bit_ceil(static_cast<std::uint64_t>(n))); };
  width = std::clamp<index_t>(width, 1, 1024);

  row_plan plan;
  const index_t full = index_t{device.processors} * device.threads;
  const bool is_few = rows <= 2 * index_t{device.processors} || (rows * warp < full && scratch_bytes(warp) == 0);
  if (width >= wide && is_few && kernel.threads > warp) {
    const int most = static_cast<int>(std::bit_floor(static_cast<unsigned>(kernel.threads)));
    plan.team = plan.block = std::min({power_of_two(width), most, power_of_two((2 * full + rows - 1) / rows)});
    plan.scratch = (scratch_bytes(plan.team) + 15) / 16 * 16;
    plan.shared = plan.scratch <= kernel.shared;
  } else {
    plan.team = power_of_two(std::min<index_t>(width, warp));
    const auto idle = [&] { return (width + plan.team - 1) / plan.team * plan.team - width; };
    while (plan.team > 1 && rows * plan.team > 2 * full && 4 * idle() > width) plan.team /= 2;
    const auto has_many = [&](int team) { return 3 * rows * team >= full; };
    while (items_of_thread > 1 && plan.team * items_of_thread > width && plan.team > 1 && has_many(plan.team / 2)) {
      plan.team /= 2;
    }

    const auto stride = [&] {
      const std::size_t bytes = scratch_bytes(plan.team);
      return plan.team < warp ? scratch_word * ((bytes + scratch_word - 1) / scratch_word | 1) : (bytes + 15) / 16 * 16;
    };
    if (scratch_bytes(plan.team) > 0) {
      const auto resident = [&] { return device.shared / stride() * static_cast<std::size_t>(plan.team); };
      while (plan.team < warp && 3 * resident() < static_cast<std::size_t>(device.threads)) plan.team *= 2;
      plan.scratch = stride();
      // The largest block of which four fit, so that one of them ends while others go on.
      const auto takes = [&] { return static_cast<std::size_t>(plan.teams_of_block()) * plan.scratch; };
      while (plan.block > warp && 4 * (takes() + device.shared_reserved) > device.shared) plan.block /= 2;
      plan.shared = takes() <= kernel.shared;
      if (!plan.shared) plan.block = 4 * warp;
    }
  }

  const auto teams = static_cast<index_t>(plan.teams_of_block());
  index_t grid = std::min<index_t>((rows + teams - 1) / teams, INT32_MAX);
  if (!plan.shared) {
    const auto fit = static_cast<index_t>(workspace_bytes / (static_cast<std::size_t>(teams) * plan.scratch));
    const index_t resident = index_t{device.processors} * std::max(1, device.threads / plan.block);
    grid = std::max<index_t>(1, std::min({grid, fit, resident}));
  }
  plan.grid = static_cast<std::uint32_t>(grid);
  return plan;
}

}  // namespace dro::detail::cuda

#endif
