# SPDX-License-Identifier: Apache-2.0
# Finds Snowball's C library (it ships no CMake package; Debian: libstemmer-dev).
#   libstemmer_FOUND, libstemmer::libstemmer; set libstemmer_INCLUDE_DIR, libstemmer_LIBRARY where it lies elsewhere
find_path(libstemmer_INCLUDE_DIR NAMES libstemmer.h PATH_SUFFIXES libstemmer)
find_library(libstemmer_LIBRARY NAMES stemmer)
mark_as_advanced(libstemmer_INCLUDE_DIR libstemmer_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(libstemmer REQUIRED_VARS libstemmer_LIBRARY libstemmer_INCLUDE_DIR)

if(libstemmer_FOUND AND NOT TARGET libstemmer::libstemmer)
  add_library(libstemmer::libstemmer UNKNOWN IMPORTED)
  set_target_properties(libstemmer::libstemmer PROPERTIES
    IMPORTED_LOCATION "${libstemmer_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${libstemmer_INCLUDE_DIR}")
endif()
