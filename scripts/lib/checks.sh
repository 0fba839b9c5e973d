# shellcheck shell=bash
# The checks that cargo does not make.

check_scripts() {
    local shellcheck files
    shellcheck=$(command -v shellcheck) || shellcheck=$(download shellcheck --quiet)/bin/shellcheck || return
    mapfile -t files < <(find scripts .ci -type f ! -name '*.txt' ! -path 'scripts/fuzz/*')
    "$shellcheck" "${files[@]}"
}

# Against the Compose specification; no container engine is needed.
check_compose() {
    local packages
    packages=$(download compose-check --quiet) || return
    PYTHONPATH=$packages python3 -m check_jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
}
