# shellcheck shell=bash
# Messages for people: the story on stdout, complaints on stderr.

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# The comment at the top of the running script is its help.
print_help() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

unknown_argument() { die "unknown argument: $1 (see $0 --help)"; }
