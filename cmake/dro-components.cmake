# SPDX-License-Identifier: Apache-2.0
# What each component of dro stands on. The build and the installed package both read it, so they cannot disagree.
#   dro_<component>_components   other components
#   dro_<component>_packages     names for find_package
#   dro_<component>_targets      the targets those packages give
set(dro_components eigen xtensor cuda text data models)

set(dro_core_packages Random123)
set(dro_core_targets Random123::Random123)

set(dro_eigen_packages Eigen3)
set(dro_eigen_targets Eigen3::Eigen)

set(dro_xtensor_packages xtensor)
set(dro_xtensor_targets xtensor)

set(dro_cuda_packages CUDAToolkit)
set(dro_cuda_targets CUDA::cudart CUDA::cublas)

set(dro_text_packages utf8proc libstemmer)
set(dro_text_targets utf8proc::utf8proc libstemmer::libstemmer)

set(dro_data_components text)
set(dro_data_packages nlohmann_json ZLIB)
set(dro_data_targets nlohmann_json::nlohmann_json ZLIB::ZLIB)

set(dro_models_components text data)
