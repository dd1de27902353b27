#!/bin/sh
# Type-checks the library for the browser: wasm32-unknown-unknown, wgpu with WebGPU only.
#
#   sh tests/wasm.sh
#
# The script uses the toolchain's wasm32 target, which rustup fetches if it is missing. If rustup cannot, the script unpacks
# Debian's rustc-web under target/ (nothing is installed), and cargo builds the standard library from source. If neither is
# available, the script says so and succeeds.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
wasm=wasm32-unknown-unknown
mkdir -p "${CARGO_TARGET_DIR:-target}"
target=$(CDPATH='' cd -- "${CARGO_TARGET_DIR:-target}" && pwd)

skip() {
    echo "wasm32: not checked ($*)"
    exit 0
}

check() { # COMPILER [ARGUMENTS]
    echo "wasm32: cargo check with $1"
    shift
    cargo check -p wgpu-optim --lib --no-default-features --features wgpu/webgpu --target $wasm --target-dir "$target/wasm" "$@"
    echo 'wasm32: passed'
    exit 0
}

has_target() { [ -d "$(rustc --print target-libdir --target $wasm 2>/dev/null)" ]; }

if ! has_target && command -v rustup >/dev/null; then
    echo "wasm32: rustup target add $wasm"
    RUST_BACKTRACE=0 rustup target add $wasm || echo 'wasm32: rustup could not add the target'
fi
if has_target; then
    check "$(rustc -V)"
fi

# --- Debian's compiler ----------------------------------------------------------------------------------------------------

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    skip "the toolchain has no $wasm: run  rustup target add $wasm"
fi

debian=$target/wasm-toolchain
new=$debian.new

apt() { apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=1 -o Acquire::http::Timeout=30 "$@"; }

depends() { # PACKAGE PREFIX: the dependency of the package with a name that begins with the prefix
    LC_ALL=C apt-cache depends "$1" 2>/dev/null | sed -n "s/^ *Depends: \($2.*\)/\1/p" | head -n 1
}

# The compiler, its library for this machine, LLVM, and the library's source. Fails if one is unknown or not available.
download() {
    std=$(depends libstd-rust-web-dev libstd-rust-web-)
    llvm=$(depends "${std:-none}" libllvm)
    [ -n "$llvm" ] && (cd "$new" && apt download rustc-web libstd-rust-web-dev "$std" "$llvm" rust-web-src)
}

unpack() {
    for deb in "$new"/*.deb; do
        case $deb in
        */rust-web-src_*) # the standard library is a tenth of the package
            dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$new" --wildcards './usr/lib/rustlib/src/rust' './usr/src/*/library'
            ;;
        *) dpkg-deb -x "$deb" "$new" ;;
        esac
        rm "$deb"
    done
    mv "$new" "$debian"
}

if [ ! -d "$debian" ]; then
    echo "wasm32: unpacking Debian's rustc-web into $debian; nothing is installed"
    rm -rf "$new"
    mkdir -p "$new"
    if ! download 2>/dev/null; then
        if [ "$(id -u)" -eq 0 ]; then apt update || :; else sudo -n apt-get -qq update || :; fi
        download || skip "rustup has no $wasm here, and Debian's rustc-web could not be fetched"
    fi
    unpack
fi

libraries=$(echo "$debian"/usr/lib/*-linux-gnu*)
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" RUSTC="$debian/usr/bin/rustc" RUSTC_BOOTSTRAP=1
version=$("$RUSTC" -V) || skip "Debian's rustc-web does not run here"
needed=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)
if [ "$(printf '%s\n' "rustc $needed" "$version" | sort -V | head -n 1)" != "rustc $needed" ]; then
    skip "rustup has no $wasm here, and Debian's $version is older than $needed"
fi
check "$version, the standard library from its source" -Zbuild-std=std,panic_abort
