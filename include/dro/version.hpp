// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_VERSION_HPP
#define DRO_VERSION_HPP

/// \file
/// The version, in one place: the build reads it from here.

#define DRO_VERSION_MAJOR 0
#define DRO_VERSION_MINOR 1
#define DRO_VERSION_PATCH 0

namespace dro {

/// "major.minor.patch"
inline constexpr const char* version_string = "0.1.0";

}  // namespace dro

#endif
