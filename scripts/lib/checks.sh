# shellcheck shell=bash
# The checks that cargo does not make.

check_scripts() {
    local shellcheck files
    shellcheck=$(command -v shellcheck) || shellcheck=$(download shellcheck --quiet)/bin/shellcheck || return
    mapfile -t files < <(find scripts .ci -type f ! -name '*.txt' ! -path 'scripts/fuzz/*')
    "$shellcheck" "${files[@]}"
}

# Licenses, sources and duplicates of dependencies, by deny.toml. Not the advisories: their database
# is on GitHub, which not every machine that runs this can reach.
check_dependencies() {
    local deny
    deny=$(command -v cargo-deny) || deny=$(build_cargo_deny) || return
    "$deny" --locked --log-level warn check bans licenses sources
}

# Built once into .local/, without optimization: it runs for a second.
build_cargo_deny() {
    local version=0.20.2 root
    root=$DOWNLOADS_DIR/cargo-deny-$version
    if [[ ! -x $root/bin/cargo-deny ]]; then
        say "Building cargo-deny $version" >&2
        CARGO_PROFILE_DEV_DEBUG=false env -u CARGO_TARGET_DIR \
            cargo install --quiet --locked --debug --root "$root" "cargo-deny@$version" >&2 || return
    fi
    printf '%s\n' "$root/bin/cargo-deny"
}

# Against the Compose specification; no container engine is needed.
check_compose() {
    local packages
    packages=$(download compose-check --quiet) || return
    PYTHONPATH=$packages python3 -m check_jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
}
