# A compiler for wasm32-unknown-unknown, for the scripts that include this file. They set `target`, cargo's target folder, and call
# `wasm_toolchain`. It uses the toolchain's wasm32 target, which rustup fetches if it is missing. If rustup cannot, it unpacks Debian's
# rustc-web under target/ (nothing is installed), and cargo builds the standard library from source.
#
# Sets `wasm` (the target's name), `compiler` (a description) and `from_source` (cargo's flags, empty for a toolchain with the target).
# Returns 1, and sets `why_not`, where there is no compiler.

wasm=wasm32-unknown-unknown

has_target() { [ -d "$(rustc --print target-libdir --target $wasm 2>/dev/null)" ]; }

apt() { apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=1 -o Acquire::http::Timeout=30 "$@"; }

depends() { # PACKAGE PREFIX: the dependency of the package with a name that begins with the prefix
    LC_ALL=C apt-cache depends "$1" 2>/dev/null | sed -n "s/^ *Depends: \($2.*\)/\1/p" | head -n 1
}

# The compiler, its library for this machine, LLVM, the linker, and the library's source. Fails if one is unknown or not available.
download() {
    std=$(depends libstd-rust-web-dev libstd-rust-web-)
    llvm=$(depends "${std:-none}" libllvm)
    lld=$(depends rustc-web lld-)
    [ -n "$llvm" ] && (cd "$new" && apt download rustc-web libstd-rust-web-dev "$std" "$llvm" ${lld:+"$lld"} rust-web-src)
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

debian_toolchain() {
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        why_not="the toolchain has no $wasm: run  rustup target add $wasm"
        return 1
    fi
    debian=$target/wasm-toolchain
    new=$debian.new
    if [ ! -d "$debian" ]; then
        echo "wasm32: unpacking Debian's rustc-web into $debian; nothing is installed"
        rm -rf "$new"
        mkdir -p "$new"
        if ! download 2>/dev/null; then
            if [ "$(id -u)" -eq 0 ]; then apt update || :; else sudo -n apt-get -qq update || :; fi
            if ! download; then
                why_not="rustup has no $wasm here, and Debian's rustc-web could not be fetched"
                return 1
            fi
        fi
        unpack
    fi
    libraries=$(echo "$debian"/usr/lib/*-linux-gnu*)
    for libs in "$debian"/usr/lib/llvm-*/lib; do
        [ ! -d "$libs" ] || libraries=$libraries:$libs
    done
    export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" RUSTC="$debian/usr/bin/rustc" RUSTC_BOOTSTRAP=1
    for linker in "$debian"/usr/lib/llvm-*/bin/lld "$debian"/usr/bin/lld-*; do
        [ ! -x "$linker" ] || export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$linker" CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="-Clinker-flavor=wasm-ld"
    done
    if ! compiler=$("$RUSTC" -V); then
        why_not="Debian's rustc-web does not run here"
        return 1
    fi
    needed=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)
    if [ "$(printf '%s\n' "rustc $needed" "$compiler" | sort -V | head -n 1)" != "rustc $needed" ]; then
        why_not="rustup has no $wasm here, and Debian's $compiler is older than $needed"
        return 1
    fi
    compiler="$compiler, the standard library from its source"
    from_source=-Zbuild-std=std,panic_abort
}

wasm_toolchain() {
    from_source=
    if ! has_target && command -v rustup >/dev/null; then
        echo "wasm32: rustup target add $wasm"
        RUST_BACKTRACE=0 rustup target add $wasm || echo 'wasm32: rustup could not add the target'
    fi
    if has_target; then
        compiler=$(rustc -V)
        return 0
    fi
    debian_toolchain
}
