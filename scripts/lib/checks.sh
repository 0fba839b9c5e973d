# shellcheck shell=bash
# The checks that cargo does not make.

check_scripts() {
    local shellcheck files
    shellcheck=$(command -v shellcheck) || shellcheck=$(download shellcheck --quiet)/bin/shellcheck || return
    mapfile -t files < <(find scripts .ci -type f ! -name '*.txt' ! -path 'scripts/fuzz-apis/*')
    "$shellcheck" "${files[@]}"
}

# Licenses, sources and duplicates of dependencies, by deny.toml. Not the advisories: their database
# is on GitHub, which not every machine that runs this can reach.
check_dependencies() {
    local deny
    deny=$(command -v cargo-deny) || deny=$(build_cargo_tool cargo-deny 0.20.2) || return
    "$deny" --locked --log-level warn check bans licenses sources
}

# Against the Compose specification; no container engine is needed.
check_compose() {
    local packages
    packages=$(download compose-check --quiet) || return
    PYTHONPATH=$packages python3 -m check_jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
}
