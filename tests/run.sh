#!/bin/sh
# Installs what the tests need on a new machine with Rust, then runs every test and every example.
#
#   sh tests/run.sh [ARGUMENTS]     ARGUMENTS go to cargo test: sh tests/run.sh -- some_filter
#
# The last line gives the number of tests, and the number of GPU tests on each adapter. A run without tests is a failure.
#
# Linux: if no Vulkan driver is installed, the script installs Mesa's software driver (Debian, Ubuntu; on other systems it
# names what to install). The GPU tests run a second time on SwiftShader, a software driver that shares no code with Mesa. macOS
# and Windows have their own driver.
#
# Environment variables: WGPU_ADAPTER_NAME, WGPU_BACKEND, VK_DRIVER_FILES, VK_ICD_FILENAMES for the first pass;
# WGPU_OPTIM_SWIFTSHADER=0 turns off the second pass, =PATH names the vk_swiftshader_icd.json to use; CARGO_TARGET_DIR.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."

mkdir -p "${CARGO_TARGET_DIR:-target}"
target=$(CDPATH='' cd -- "${CARGO_TARGET_DIR:-target}" && pwd)
logs=$target/test-logs
rm -rf "$logs"
mkdir -p "$logs"

heading() { printf '\n=== %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
command -v cargo >/dev/null || die 'cargo is not on the PATH: install Rust first'

# The Vulkan loader prints warnings if there is no runtime folder.
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then
    XDG_RUNTIME_DIR=$(mktemp -d)
    export XDG_RUNTIME_DIR
    trap 'rm -rf "$XDG_RUNTIME_DIR"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
fi

# --- Debian's packages ----------------------------------------------------------------------------------------------------

on_debian() {
    command -v apt-get >/dev/null && grep -Eq '^ID(_LIKE)?=.*(debian|ubuntu)' /etc/os-release 2>/dev/null
}

apt() { # [--may-ask] ARGUMENTS: runs apt-get as root; sudo asks for a password only with --may-ask
    sudo='sudo -n'
    if [ "$1" = --may-ask ]; then
        sudo=sudo
        shift
    fi
    set -- env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=30 "$@"
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        $sudo "$@"
    else
        echo 'apt-get needs root, and there is no sudo' >&2
        return 1
    fi
}

download() { # FOLDER PACKAGE: downloads the package's .deb into the folder; fetches the package lists only if needed
    (
        cd "$1"
        fetch() { apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=1 -o Acquire::http::Timeout=30 download "$1"; }
        fetch "$2" 2>/dev/null || { apt update && fetch "$2"; }
    )
}

# --- The Vulkan driver ----------------------------------------------------------------------------------------------------

has_loader() {
    PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' ||
        ls /usr/lib*/libvulkan.so.1 /run/opengl-driver/lib/libvulkan.so.1 >/dev/null 2>&1
}

has_gpu() {
    for node in /dev/dri/renderD* /dev/nvidia[0-9]* /dev/nvhost-gpu /dev/kgsl-3d0 /dev/mali0 /dev/dxg; do
        if [ -e "$node" ]; then return 0; fi
    done
    return 1
}

drivers() { # PATTERN: the descriptions of installed drivers with file names that match
    for folder in /etc /usr/local/etc /usr/share /usr/local/share /run/opengl-driver/share "${HOME:-/root}/.local/share"; do
        find "$folder/vulkan/icd.d/" -name "$1" 2>/dev/null || :
    done
}

has_driver() {
    chosen=${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}
    if [ -n "$chosen" ]; then
        [ -e "${chosen%%:*}" ] || die "the Vulkan driver ${chosen%%:*} (VK_DRIVER_FILES, VK_ICD_FILENAMES) does not exist"
    elif has_gpu; then
        [ -n "$(drivers '*.json')" ]
    else
        # A GPU's driver without the GPU has no adapter.
        [ -n "$(drivers 'lvp_icd*.json')$(drivers '*swiftshader*.json')" ]
    fi
}

set_up_vulkan() {
    if ! { has_loader && has_driver; }; then
        on_debian || die 'no Vulkan driver found. Install the Vulkan loader and the driver of the GPU, or the software driver
lavapipe: Fedora: mesa-vulkan-drivers vulkan-loader; Arch: vulkan-swrast vulkan-icd-loader; Alpine: mesa-vulkan-swrast
vulkan-loader; openSUSE: libvulkan_lvp libvulkan1. A driver in another place is named with VK_DRIVER_FILES=FILE.json.'
        echo 'No Vulkan driver found: installing mesa-vulkan-drivers and libvulkan1.'
        apt --may-ask update || echo 'apt-get update failed; trying with the existing package lists.'
        apt --may-ask install -y --no-install-recommends mesa-vulkan-drivers libvulkan1 ||
            die 'could not install a Vulkan driver: run  apt-get install mesa-vulkan-drivers libvulkan1  as root'
        if ! { has_loader && has_driver; }; then
            die 'mesa-vulkan-drivers and libvulkan1 are installed, but no Vulkan driver is found'
        fi
    fi
    if [ -z "${WGPU_ADAPTER_NAME:-}${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]; then
        lavapipe=$(drivers 'lvp_icd*.json' | paste -s -d : -)
        # Without a GPU, other drivers have no adapter.
        if [ -n "$lavapipe" ] && ! has_gpu; then
            export VK_DRIVER_FILES="$lavapipe" VK_ICD_FILENAMES="$lavapipe"
        fi
    fi
}

usable_swiftshader() { # JSON: whether the file and the library beside it exist and load
    [ -f "$1" ] && [ -f "${1%/*}/libvk_swiftshader.so" ] &&
        ! ldd "${1%/*}/libvk_swiftshader.so" 2>/dev/null | grep -q 'not found'
}

# Sets `swiftshader` to the driver's description, or leaves it empty and sets `why_not` to the reason.
find_swiftshader() {
    swiftshader=
    case ${WGPU_OPTIM_SWIFTSHADER:-} in
    0)
        why_not='WGPU_OPTIM_SWIFTSHADER is 0'
        return
        ;;
    '' | 1) ;;
    *)
        swiftshader=$WGPU_OPTIM_SWIFTSHADER
        usable_swiftshader "$swiftshader" || die "WGPU_OPTIM_SWIFTSHADER: $swiftshader with libvk_swiftshader.so beside it is not there or does not load"
        return
        ;;
    esac
    if [ "$(uname -s)" != Linux ]; then
        why_not='fetched on Linux only'
        return
    fi
    cache=$target/swiftshader
    for json in "$cache" /usr/lib/chromium /usr/lib/chromium-browser /usr/lib64/chromium-browser /opt/google/chrome; do
        json=$json/vk_swiftshader_icd.json
        if usable_swiftshader "$json"; then
            swiftshader=$json
            return
        fi
    done
    if ! on_debian; then
        why_not='fetched on Debian and Ubuntu only; WGPU_OPTIM_SWIFTSHADER=PATH names a vk_swiftshader_icd.json'
        return
    fi
    echo "SwiftShader: unpacking it from Debian's package chromium-common; nothing is installed."
    rm -rf "$cache"
    mkdir -p "$cache"
    if ! download "$cache" chromium-common; then
        why_not='the package chromium-common could not be fetched'
        return
    fi
    dpkg-deb --fsys-tarfile "$cache"/chromium-common_*.deb |
        tar -x -C "$cache" --transform 's,.*/,,' --wildcards '*/libvk_swiftshader.so' '*/vk_swiftshader_icd.json' || :
    rm -f "$cache"/*.deb
    if usable_swiftshader "$cache/vk_swiftshader_icd.json"; then
        swiftshader=$cache/vk_swiftshader_icd.json
    else
        why_not='the package chromium-common holds no SwiftShader that loads here'
    fi
}

# --- Running --------------------------------------------------------------------------------------------------------------

failed=
fail() { failed="$failed${failed:+, }$1"; }

on_swiftshader() { # COMMAND…: runs it on SwiftShader, or without an adapter
    env VK_DRIVER_FILES="$swiftshader" VK_ICD_FILENAMES="$swiftshader" WGPU_BACKEND=vulkan WGPU_ADAPTER_NAME=SwiftShader "$@"
}

on_lavapipe() { # COMMAND…: runs it on lavapipe, if that is installed and the environment names no other driver
    if [ -n "$lavapipe" ]; then
        env VK_DRIVER_FILES="$lavapipe" VK_ICD_FILENAMES="$lavapipe" "$@"
    else
        "$@"
    fi
}

logged() { # LOG COMMAND…: shows and keeps the output, without SwiftShader's notes about structures that it skips
    log=$logs/$1.log
    shift
    {
        status=0
        "$@" 2>&1 || status=$?
        echo "$status" >"$log.status"
    } | grep --line-buffered -v 'third_party/swiftshader.* WARNING: ' | tee "$log"
    return "$(cat "$log.status")"
}

adapter() { # DRIVER [on_…]: the adapter that the crate chooses, else the first that the Vulkan loader lists
    driver=$1
    shift
    # The first line is about the machine, and names no adapter.
    name=$("$@" "$target/release/wgpu-optim" info --json 2>/dev/null |
        sed -n 's/.*"adapter": *"\([^"]*\)".*/\1/p' | head -n 1) || :
    if [ -z "$name" ] && command -v vulkaninfo >/dev/null; then
        name=$("$@" vulkaninfo --summary 2>/dev/null | sed -n 's/.*deviceName *= *//p' | head -n 1) || :
    fi
    echo "${name:-unknown adapter} (driver: ${driver:-as wgpu chooses})"
}

closing_lines() { # LOG: the closing line of every test binary with the binary's name, and the sums
    awk '/^ *Running / { name = $2 == "unittests" ? $3 : $2 }
         /^ *Doc-tests / { name = "doc tests" }
         /^not run: / { print $0 " [" name "]"; not_run++ }
         /^test result: / { print $0 " [" name "]"; passed += $4; failed += $6; ignored += $8 }
         END { printf "%d passed, %d failed, %d ignored", passed - not_run, failed, ignored
               print not_run ? ", " not_run " not run" : "" }' "$logs/$1.log"
}

ran() { # LOG [PATH]: the number of tests that ran, or of those of the test target at PATH
    [ -f "$logs/$1.log" ] || { echo 0; return; }
    awk -v path="${2:-}" '
        /^ *Running / { name = $2 == "unittests" ? $3 : $2 }
        /^ *Doc-tests / { name = "doc tests" }
        /^not run: / && (path == "" || name == path) { ran-- }
        /^test result: / && (path == "" || name == path) { ran += $4 + $6 }
        END { print ran + 0 }' "$logs/$1.log"
}

verdict() { # the last line of the summary
    total=$(($(ran first) + $(ran second)))
    on_first=$(ran first "$gpu_tests")
    on_second=$(ran second "$gpu_tests")
    adapters="$on_first on $first"
    if [ -n "$swiftshader" ]; then adapters="$adapters, $on_second on $second"; fi
    if [ "$total" -eq 0 ]; then fail 'no test ran'; fi
    echo "${failed:+FAILED: }${failed:-All tests passed}. $total tests ran, $((on_first + on_second)) of them GPU tests: $adapters."
}

gpu_tests=tests/gpu/main.rs
lavapipe=
if [ "$(uname -s)" = Linux ]; then
    set_up_vulkan
fi
find_swiftshader

heading 'Build'
cargo test --release --no-run "$@"

first=$(adapter "${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}")
heading "Tests on $first"
logged first cargo test --release --no-fail-fast "$@" || fail tests

if [ -n "$swiftshader" ]; then
    # If the arguments select targets, these replace the GPU tests.
    gpu=gpu
    for argument; do
        case $argument in
        --) break ;;
        --lib | --bin* | --test* | --example* | --bench* | --doc | --all-targets) gpu= ;;
        esac
    done
    second=$(adapter "$swiftshader" on_swiftshader)
    heading "GPU tests on $second"
    logged second on_swiftshader cargo test --release --no-fail-fast ${gpu:+--test gpu} "$@" || fail 'tests on SwiftShader'
fi

examples=
if [ $# -eq 0 ]; then
    for example in examples/*.rs examples/*/main.rs; do
        [ -f "$example" ] || continue
        example=${example#examples/}
        example=${example%/main.rs}
        example=${example%.rs}
        heading "Example $example"
        on_lavapipe cargo run --release --quiet --example "$example" || fail "example $example"
        examples="$examples $example"
    done
    examples=${examples:- none}
else
    examples=' not run (arguments select tests)'
fi

heading 'Summary'
{
    echo "Tests on $first:"
    closing_lines first
    if [ -n "$swiftshader" ]; then
        echo "GPU tests on $second:"
        closing_lines second
    else
        echo "SwiftShader: not run ($why_not)"
    fi
    echo "Examples:$examples"
} | tee "$logs/summary.txt"
verdict >"$logs/verdict.txt"
tee -a "$logs/summary.txt" <"$logs/verdict.txt"
[ -z "$failed" ]
