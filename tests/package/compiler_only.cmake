# SPDX-License-Identifier: Apache-2.0
# cmake -Dcompiler= -Dinclude= -Dsource= -Dprogram= -P compiler_only.cmake
execute_process(COMMAND "${compiler}" -std=c++20 -I "${include}" "${source}" -o "${program}" COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${program}" COMMAND_ERROR_IS_FATAL ANY)
