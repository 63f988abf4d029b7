// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_SLOTS_HPP
#define DRO_RANKING_SLOTS_HPP

/// \file
/// Where a thread keeps something for each pick of a draw: in registers where there are few picks, else in memory.

#include <cstddef>
#include <type_traits>
#include <utility>

#include <dro/config.hpp>

namespace dro::detail {

/// Up to `Slots` elements. In registers, if each use of an index is known when compiled: see for_each_slot.
template <class Element, int Slots>
struct slots_in_registers {
  static constexpr int slots = Slots;
  Element element[static_cast<std::size_t>(Slots)];
  DRO_HOST_DEVICE Element& operator[](int t) { return element[t]; }
  DRO_HOST_DEVICE const Element& operator[](int t) const { return element[t]; }
};

/// Any number of elements, `stride` apart.
template <class Element>
struct slots_in_memory {
  static constexpr int slots = 0;
  Element* element;
  index_t stride;
  DRO_HOST_DEVICE Element& operator[](int t) const { return element[t * stride]; }
};

template <class F, int... T>
DRO_HOST_DEVICE void for_each_slot(std::integer_sequence<int, T...>, int picks, F&& f) {
  (f(std::integral_constant<int, T>{}, T < picks), ...);
}
template <class F, int... T>
DRO_HOST_DEVICE void for_each_slot_backwards(std::integer_sequence<int, T...>, int picks, F&& f) {
  constexpr int last = static_cast<int>(sizeof...(T)) - 1;
  (f(std::integral_constant<int, last - T>{}, last - T < picks), ...);
}

/// Calls f(t, is_pick) for each slot t, where is_pick = t < picks: for Slots = 0 for each pick, else for all of the
/// slots, so that nothing branches, and with t as a std::integral_constant, since a loop would not always be unrolled
/// before the compiler looks which arrays may be registers.
template <int Slots, class F>
DRO_HOST_DEVICE void for_each_slot(int picks, F&& f) {
  if constexpr (Slots > 0) {
    for_each_slot(std::make_integer_sequence<int, Slots>{}, picks, f);
  } else {
    for (int t = 0; t < picks; ++t) f(t, std::true_type{});
  }
}

/// The same from the last slot backwards.
template <int Slots, class F>
DRO_HOST_DEVICE void for_each_slot_backwards(int picks, F&& f) {
  if constexpr (Slots > 0) {
    for_each_slot_backwards(std::make_integer_sequence<int, Slots>{}, picks, f);
  } else {
    for (int t = picks; t-- > 0;) f(t, std::true_type{});
  }
}

/// Calls f(std::integral_constant<int, Slots>) with the slots that `picks` are to have: 5 or 10, if they fit in, or 0:
/// in memory.
template <class F>
void with_slots_for(index_t picks, F&& f) {
  if (picks <= 5) {
    f(std::integral_constant<int, 5>{});
  } else if (picks <= 10) {
    f(std::integral_constant<int, 10>{});
  } else {
    f(std::integral_constant<int, 0>{});
  }
}

/// Up to so many picks have as many slots where with_exact_slots_for chooses them.
inline constexpr int most_exact_slots = 5;

/// The same, and up to most_exact_slots picks have a slot each and no more: then picks_in<Slots>(picks) is known when
/// compiled.
template <class F>
void with_exact_slots_for(index_t picks, F&& f) {
  const auto are_few = [&]<int... T>(std::integer_sequence<int, T...>) {
    return ((picks == T + 1 && (f(std::integral_constant<int, T + 1>{}), true)) || ...);
  };
  if (are_few(std::make_integer_sequence<int, most_exact_slots>{})) return;
  with_slots_for(picks > 0 ? picks : most_exact_slots + 1, f);
}
template <int Slots>
[[nodiscard]] DRO_HOST_DEVICE constexpr int picks_in(index_t picks) {
  return Slots > 0 && Slots <= most_exact_slots ? Slots : static_cast<int>(picks);
}

}  // namespace dro::detail

#endif
