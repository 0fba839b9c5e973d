# shellcheck shell=bash
# Background processes by name. STATE_DIR/pids/NAME holds the pid and the process's start time,
# because a bare pid may by now belong to someone else; STATE_DIR/logs/NAME.log holds the output.

# start_process NAME COMMAND...: in a session of its own, so that neither Ctrl-C nor the end of
# this shell reaches it; in /, because it may run as a user who cannot enter the checkout.
start_process() {
    local name=$1
    shift
    mkdir -p "$STATE_DIR/logs"
    (cd / && exec setsid "$@") >>"$(log_of "$name")" 2>&1 </dev/null 9>&- &
    record_process "$name" "$!"
    disown "$!"
}

record_process() {
    mkdir -p "$STATE_DIR/pids"
    printf '%s %s\n' "$2" "$(start_time "$2")" >"$STATE_DIR/pids/$1"
}

# Prints the pid if the process is alive and is still the one that was started.
process_pid() {
    local pid started
    read -r pid started 2>/dev/null <"$STATE_DIR/pids/$1" || return 1
    [[ -n $started && $(start_time "$pid") == "$started" ]] || return 1
    printf '%s\n' "$pid"
}

is_running() { process_pid "$1" >/dev/null; }

# Its children as well: one that is stopped does not see that its parent has ended.
continue_process() {
    local children=()
    # The list ends without a newline.
    read -ra children 2>/dev/null <"/proc/$1/task/$1/children" || true
    kill -s CONT "$1" "${children[@]}" 2>/dev/null || true
}

# stop_process NAME SIGNAL SECONDS: asks with the signal, then insists. One that was stopped by SIGSTOP
# goes on, so that it can end.
stop_process() {
    local name=$1 signal=$2 seconds=$3 pid
    if pid=$(process_pid "$name"); then
        continue_process "$pid"
        kill -s "$signal" "$pid" 2>/dev/null || true
        if ! wait_until "$seconds" has_ended "$name"; then
            warn "$name (pid $pid) did not stop within $seconds s and is killed"
            kill -s KILL "$pid" 2>/dev/null || true
            wait_until 5 has_ended "$name" || die "$name (pid $pid) cannot be killed"
        fi
    fi
    rm -f "$STATE_DIR/pids/$name"
}

has_ended() { ! is_running "$1"; }

# wait_until SECONDS COMMAND...: false if the command never succeeds within that time.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

# wait_until_ready NAME SECONDS COMMAND...: like wait_until, but gives up when the process dies.
wait_until_ready() {
    local name=$1 seconds=$2
    shift 2
    wait_until "$seconds" ready_or_ended "$name" "$@" && is_running "$name" && "$@"
}

ready_or_ended() {
    local name=$1
    shift
    "$@" || has_ended "$name"
}

log_of() { printf '%s/logs/%s.log\n' "$STATE_DIR" "$1"; }

show_log() {
    printf -- '--- the end of %s\n' "$(log_of "$1")" >&2
    tail -n 20 "$(log_of "$1")" >&2 || true
}

# Field 22 of /proc/PID/stat, in clock ticks since boot; empty for a process that is gone or a
# zombie. The name in field 2 may hold spaces, so the fields are counted from its bracket.
start_time() {
    local stat fields
    read -r stat 2>/dev/null <"/proc/$1/stat" || return 0
    read -ra fields <<<"${stat##*) }"
    [[ ${fields[0]} == Z ]] || printf '%s\n' "${fields[19]}"
}

# run_interruptibly COMMAND...: bash runs a trap only after the command in the foreground has
# ended. This one runs in the background, in a process group of its own, and the trap ends it
# with end_interruptible.
run_interruptibly() {
    local status=0
    set -m
    "$@" </dev/null 9>&- &
    INTERRUPTIBLE=$!
    set +m
    wait "$INTERRUPTIBLE" || status=$?
    INTERRUPTIBLE=
    return "$status"
}

end_interruptible() {
    [[ -n ${INTERRUPTIBLE:-} ]] || return 0
    kill -TERM -- "-$INTERRUPTIBLE" 2>/dev/null || true
    wait "$INTERRUPTIBLE" 2>/dev/null || true
    INTERRUPTIBLE=
}
