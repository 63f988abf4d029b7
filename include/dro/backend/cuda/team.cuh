// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_TEAM_CUH
#define DRO_BACKEND_CUDA_TEAM_CUH

/// \file
/// The threads of a GPU that run one row of a row program together: part of a warp, a warp, or a block.

#include <cstddef>
#include <type_traits>

#include <dro/backend/team.hpp>
#include <dro/config.hpp>

namespace dro::detail::cuda {

/// Largest value so far and where it was; the earlier one of two that are equal.
template <class T>
struct place {
  T value;
  index_t index;

  __device__ bool is_behind(const place& other) const {
    return other.value > value || (other.value == value && other.index < index);
  }
};

/// What happens between the threads of a team, lane by lane and warp by warp. `lanes` is a power of two up to 32, and
/// `mask` names the threads of the team within their warp. Every result is the same bits in every thread.
namespace lanes {

inline constexpr unsigned all = 0xFFFFFFFFU;

/// exchange(mask) where all teams of a warp come here together, which they mostly do, is exchange(all), a constant: for
/// a mask that differs between the threads of a warp a shuffle is a loop over the different masks. Threads that are
/// active together take the same branch together, and if they are all 32, none of them waits for one that is elsewhere.
template <class F>
__device__ auto exchange_in(unsigned mask, F&& exchange) {
  return __activemask() == all ? exchange(std::integral_constant<unsigned, all>{}) : exchange(mask);
}

template <class T>
__device__ T sum(unsigned mask, int lanes, T value) {
  return exchange_in(mask, [=](auto together) {
    using part = summand<T>;
    T total = value;
    for (int distance = lanes / 2; distance > 0; distance /= 2) {
      for (int k = 0; k < part::size; ++k) {
        part::at(total, k) += __shfl_xor_sync(together, part::at(total, k), distance);
      }
    }
    return total;
  });
}

/// Of values that compare equal (0 and −0) that of the lowest lane; NaN is no input.
template <class T>
__device__ T largest(unsigned mask, int lanes, int lane, T value) {
  return exchange_in(mask, [=](auto together) {
    T best = value;
    for (int distance = lanes / 2; distance > 0; distance /= 2) {
      const T other = __shfl_xor_sync(together, best, distance);
      const T low = (lane & distance) == 0 ? best : other;
      const T high = (lane & distance) == 0 ? other : best;
      best = high > low ? high : low;
    }
    return best;
  });
}

template <class T>
__device__ place<T> first_of_largest(unsigned mask, int lanes, place<T> own) {
  return exchange_in(mask, [=](auto together) {
    place<T> best = own;
    for (int distance = lanes / 2; distance > 0; distance /= 2) {
      const place<T> other{__shfl_xor_sync(together, best.value, distance),
                           __shfl_xor_sync(together, best.index, distance)};
      if (best.is_behind(other)) best = other;
    }
    return best;
  });
}

template <class T>
__device__ T inclusive_scan(unsigned mask, int lanes, int lane, T own) {
  return exchange_in(mask, [=](auto together) {
    T value = own;
    for (int distance = 1; distance < lanes; distance *= 2) {
      const T before = __shfl_up_sync(together, value, static_cast<unsigned>(distance), lanes);
      if (lane >= distance) value += before;
    }
    return value;
  });
}

/// The value of the team's last lane.
template <class T>
__device__ T last(unsigned mask, int lanes, T value) {
  return exchange_in(mask, [=](auto together) { return __shfl_sync(together, value, lanes - 1, lanes); });
}

inline __device__ bool any(unsigned mask, bool mine) {
  return exchange_in(mask, [=](auto together) {
    // Of a whole warp's vote, what the team's lanes said.
    return (__ballot_sync(together, static_cast<int>(mine)) & mask) != 0;
  });
}

inline __device__ void barrier(unsigned mask) {
  exchange_in(mask, [](auto together) { __syncwarp(together); });
}

}  // namespace lanes

/// The same for a whole block of up to 32 warps. Not inlined: programs call them at many places, and rarely.
namespace blocks {

using lanes::all;
inline constexpr int warp = 32;

/// Value of each warp, seen by all: lane i of every warp gets that of warp i, `neutral` beyond the last warp.
template <class T>
__device__ T exchange(T of_warp, T neutral) {
  __shared__ T values[warp];
  const unsigned lane = threadIdx.x % warp;
  if (lane == 0) values[threadIdx.x / warp] = of_warp;
  __syncthreads();
  const T value = lane < blockDim.x / warp ? values[lane] : neutral;
  __syncthreads();
  return value;
}

template <class T>
__device__ __noinline__ T sum(T value) {
  return lanes::sum(all, warp, exchange(lanes::sum(all, warp, value), T{}));
}

template <class T>
__device__ __noinline__ T largest(T value, T lowest) {
  const int lane = static_cast<int>(threadIdx.x % warp);
  return lanes::largest(all, warp, lane, exchange(lanes::largest(all, warp, lane, value), lowest));
}

template <class T>
__device__ __noinline__ place<T> first_of_largest(place<T> best, place<T> none) {
  best = lanes::first_of_largest(all, warp, best);
  best.value = exchange(best.value, none.value);
  best.index = exchange(best.index, none.index);
  return lanes::first_of_largest(all, warp, best);
}

/// `total` gets the sum over the block.
template <class T>
__device__ __noinline__ T inclusive_scan(T value, T& total) {
  const int lane = static_cast<int>(threadIdx.x % warp);
  const int own_warp = static_cast<int>(threadIdx.x / warp);
  const T in_warp = lanes::inclusive_scan(all, warp, lane, value);
  const T of_warp = exchange(__shfl_sync(all, in_warp, warp - 1), T(0));
  const T up_to = lanes::inclusive_scan(all, warp, lane, of_warp);
  total = __shfl_sync(all, up_to, warp - 1);
  const T before = __shfl_sync(all, up_to, own_warp > 0 ? own_warp - 1 : 0);
  return own_warp > 0 ? before + in_warp : in_warp;
}

}  // namespace blocks

/// The interface of dro::host_team on 1, 2, 4, …, 32 lanes of a warp or on a block of whole warps, see its members for
/// what they compute. One class for all sizes: how many threads share a row is settled when it is queued, and a program
/// is compiled once. Items of a loop go to the threads in turn, counted in 32 bits. Reductions have a fixed order for a
/// given size.
///
/// sum: |error| ≤ (n / size + log2(size)) ε Σ|f(i)|.
class device_team {
 public:
  /// The team of `size` threads this thread belongs to.
  __device__ device_team(int size, std::byte* scratch)
      : scratch_(scratch), size_(size), rank_(static_cast<int>(threadIdx.x) & (size - 1)) {
    if (size < blocks::warp) mask_ = ((1U << size) - 1U) << (threadIdx.x % blocks::warp - static_cast<unsigned>(rank_));
  }

  [[nodiscard]] __device__ index_t size() const { return size_; }
  [[nodiscard]] __device__ index_t rank() const { return rank_; }

  template <class F>
  __device__ void for_each(index_t n, F&& f) {
    const int count = static_cast<int>(n);
    _Pragma("unroll 1") for (int i = rank_; i < count; i += size_) f(index_t{i});
  }

  template <class T, class F>
  [[nodiscard]] __device__ T sum(index_t n, F&& f) {
    T value{};
    const int count = static_cast<int>(n);
    _Pragma("unroll 1") for (int i = rank_; i < count; i += size_) value += f(index_t{i});
    return is_block() ? blocks::sum(value) : lanes::sum(mask_, size_, value);
  }

  template <class T, class F>
  [[nodiscard]] __device__ T max(index_t n, T lowest, F&& f) {
    T best = lowest;
    const int count = static_cast<int>(n);
    _Pragma("unroll 1") for (int i = rank_; i < count; i += size_) {
      const T value = f(index_t{i});
      best = value > best ? value : best;
    }
    return is_block() ? blocks::largest(best, lowest) : lanes::largest(mask_, size_, rank_, best);
  }

  template <class T, class F>
  [[nodiscard]] __device__ index_t arg_max(index_t n, T lowest, F&& f) {
    place<T> best{lowest, n};
    const int count = static_cast<int>(n);
    _Pragma("unroll 1") for (int i = rank_; i < count; i += size_) {
      const T value = f(index_t{i});
      if (value > best.value) best = {value, index_t{i}};
    }
    return (is_block() ? blocks::first_of_largest(best, {lowest, n}) : lanes::first_of_largest(mask_, size_, best))
        .index;
  }

  template <class T, class F, class Out>
  __device__ T inclusive_scan(index_t n, F&& f, Out&& out) {
    T before{};
    for (index_t first = 0; first < n; first += size_) {
      const index_t i = first + rank_;
      const T value = i < n ? static_cast<T>(f(i)) : T{};
      T total;
      T up_to;
      if (is_block()) {
        up_to = blocks::inclusive_scan(value, total);
      } else {
        up_to = lanes::inclusive_scan(mask_, size_, rank_, value);
        total = lanes::last(mask_, size_, up_to);
      }
      if (i < n) out(i, before + up_to);
      before += total;
    }
    return before;
  }

  [[nodiscard]] __device__ bool any(bool mine) const {
    return is_block() ? __syncthreads_or(static_cast<int>(mine)) != 0 : lanes::any(mask_, mine);
  }

  __device__ void barrier() const {
    if (is_block()) {
      __syncthreads();
    } else {
      lanes::barrier(mask_);
    }
  }

  template <class T>
  [[nodiscard]] __device__ T* scratch(std::size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(scratch_ + byte_offset);
  }

 private:
  [[nodiscard]] __device__ bool is_block() const { return size_ > blocks::warp; }

  std::byte* scratch_;
  unsigned mask_ = lanes::all;
  int size_;
  int rank_;
};

}  // namespace dro::detail::cuda

#endif
