# shellcheck shell=bash
# Requests as a reader of the demo would make them, and a quick look for the timing.

# request METHOD URL [BODY]: shows the curl command and runs it; sets STATUS, BODY and
# ANSWERED_AT, the moment at which curl printed the status line, in microseconds.
request() {
    local arguments=("$2") line
    [[ $1 == GET ]] || arguments=(-X "$1" "$2")
    (($# < 3)) || arguments+=(-H 'content-type: application/json' -d "$3")
    show_command curl "${arguments[@]}"

    exec 3< <(curl -sS -i -N -m 10 "${arguments[@]}" 2>&1)
    IFS= read -r line <&3 || true
    ANSWERED_AT=$(now)
    [[ $line =~ ^HTTP/[0-9.]+\ ([0-9]{3}) ]] || die "no answer: $line"
    STATUS=${BASH_REMATCH[1]}
    while IFS= read -r line <&3 && [[ $line != $'\r' ]]; do :; done
    IFS= read -r -d '' BODY <&3 || true
    exec 3<&-
}

# look URL: sets SEEN_STATUS and SEEN without starting a process, which would take longer than
# the answer.
look() {
    local authority=${1#http://} response=
    authority=${authority%%/*}
    {
        printf 'GET /%s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n' "${1#http://*/}" "$authority" >&4
        IFS= read -r -d '' -t 5 response <&4 || true
    } 4<>"/dev/tcp/${authority%:*}/${authority##*:}" || die "no answer from $authority"
    SEEN_STATUS=${response:9:3}
    SEEN=${response#*$'\r\n\r\n'}
}

# field NAME JSON: a string or number of a flat object.
field() {
    [[ $2 =~ \"$1\":(\"[^\"]*\"|[0-9]+) ]] || die "no $1 in $2"
    printf '%s\n' "${BASH_REMATCH[1]}"
}

now() { printf '%s\n' "${EPOCHREALTIME//[!0-9]/}"; }

# The arguments as one would type them.
show_command() {
    local argument line='$'
    for argument in "$@"; do
        [[ $argument =~ ^[A-Za-z0-9_./:@-]+$ ]] || argument="'$argument'"
        line+=" $argument"
    done
    say "$line"
}
