#!/bin/sh
# Installs Open MPI and libclang on Debian and Ubuntu, where they are missing, then runs all tests of wgpu-optim-mpi and its example on four ranks.
#
#   sh crates/mpi/tests/run.sh [ARGUMENTS]     ARGUMENTS go to cargo test
#
# The ranks share one adapter. Without a GPU they run on Mesa's software driver, which `sh tests/run.sh` installs.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/../../.."

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

has_clang() {
    [ -n "${LIBCLANG_PATH:-}" ] || find /usr/lib /usr/lib64 -name 'libclang*.so*' 2>/dev/null | grep -q .
}

missing=
command -v mpirun >/dev/null || missing="$missing openmpi-bin"
command -v mpicc >/dev/null || missing="$missing libopenmpi-dev"
has_clang || missing="$missing libclang-dev"
if [ ! -e /usr/share/vulkan/icd.d ] && [ ! -e /etc/vulkan/icd.d ] && [ -z "${VK_DRIVER_FILES:-}" ]; then
    missing="$missing mesa-vulkan-drivers libvulkan1"
fi
if [ -n "$missing" ]; then
    command -v apt-get >/dev/null || die "install an MPI with its compiler wrapper mpicc, libclang and a Vulkan driver; missing, by Debian's names:$missing"
    echo "Installing$missing."
    sudo=
    [ "$(id -u)" -eq 0 ] || sudo='sudo -n'
    # The packages' names are words of their own.
    # shellcheck disable=SC2086
    $sudo env DEBIAN_FRONTEND=noninteractive sh -c "apt-get -qq update; apt-get -qq install -y --no-install-recommends $missing" ||
        die "could not install them: run  apt-get install$missing  as root"
fi

# The Vulkan loader prints warnings if there is no runtime folder.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}"
# Open MPI asks before it runs as root, or starts more ranks than there are cores. Ranks that wait leave the core to others.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none

# Everything but wgpu-optim is optimized: the tests spend their time in the driver, and the build takes a third less.
cargo test --release --config profile.release.package.wgpu-optim.opt-level=0 -p wgpu-optim-mpi "$@"

if [ $# -eq 0 ]; then
    built=${CARGO_TARGET_DIR:-target}/release
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    echo '=== The digits on four ranks, then on three ranks from the checkpoint of the four'
    mpirun -n 4 "$built/examples/digits" "$folder/digits.safetensors"
    mpirun -n 3 "$built/examples/digits" "$folder/digits.safetensors"
    echo '=== A step of 16 M parameters'
    for ranks in 1 2 4; do
        mpirun -n "$ranks" "$built/wgpu-optim-mpi" bench --steps 2
    done
fi
echo 'All tests of wgpu-optim-mpi passed.'
