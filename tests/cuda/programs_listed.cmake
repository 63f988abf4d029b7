# SPDX-License-Identifier: Apache-2.0
# cmake -Dinclude=<folder> -P programs_listed.cmake: every row program of the core and of the tables is on a list of
# those that dro_add_cuda_unit compiles, and the lists name no other. Other models and readers, which need more than
# the core, are named to dro_add_cuda_unit by who uses them.

cmake_path(ABSOLUTE_PATH include)
set(listed "")
file(GLOB files "${include}/dro/backend/cuda/programs/*.hpp")
foreach(file IN LISTS files)
  file(READ "${file}" text)
  string(REGEX MATCHALL "X\\(dro::[a-z0-9_:]*_program" programs "${text}")
  list(TRANSFORM programs REPLACE "^X\\(" "")
  list(APPEND listed ${programs})
endforeach()
list(REMOVE_DUPLICATES listed)

set(found "")
file(GLOB_RECURSE headers "${include}/dro/*.hpp")
list(FILTER headers EXCLUDE REGEX "/dro/(testing|data|text|models)/")
list(APPEND headers "${include}/dro/models/table.hpp")
foreach(header IN LISTS headers)
  set(scope "")  # the namespaces around a line, outermost first
  file(STRINGS "${header}" lines REGEX "^(namespace [a-z_:]+ {|}  // namespace|struct [a-z0-9_]+_program )")
  foreach(line IN LISTS lines)
    if(line MATCHES "^namespace ([a-z_:]+)")
      list(APPEND scope "${CMAKE_MATCH_1}")
    elseif(line MATCHES "^}")
      list(POP_BACK scope)
    elseif(line MATCHES "^struct ([a-z0-9_]+)")
      set(name "${CMAKE_MATCH_1}")
      list(JOIN scope "::" where)
      list(APPEND found "${where}::${name}")
    endif()
  endforeach()
endforeach()
if(NOT found OR NOT listed)
  message(FATAL_ERROR "No programs found in ${include}")
endif()

set(missing ${found})
list(REMOVE_ITEM missing ${listed})
set(unknown ${listed})
list(REMOVE_ITEM unknown ${found})
if(missing OR unknown)
  list(JOIN missing "\n  " missing)
  list(JOIN unknown "\n  " unknown)
  message(FATAL_ERROR "Programs on no list in dro/backend/cuda/programs:\n  ${missing}\n"
                      "Listed but not there:\n  ${unknown}")
endif()
