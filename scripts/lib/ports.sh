# shellcheck shell=bash
# TCP ports on the loopback address.

# require_free_ports VARIABLE...: each is the name of the environment variable that sets the port.
require_free_ports() {
    local variable port failed=0
    for variable in "$@"; do
        port=${!variable}
        if ! port_is_free "$port"; then
            warn "port $port is in use$(holder_of "$port"); set $variable to another one"
            failed=1
        fi
    done
    ((failed == 0)) || die "cannot start: see the ports above"
}

# require_free_block VARIABLE COUNT: so many ports from the variable's on.
require_free_block() {
    local first=${!1} port
    for ((port = first; port < first + $2; port++)); do
        port_is_free "$port" ||
            die "port $port is in use$(holder_of "$port"); set $1 to another one: it and the next $(($2 - 1)) are needed"
    done
}

# Binds as the servers do, so that a connection in TIME_WAIT is no obstacle.
port_is_free() {
    python3 - "$1" <<'PYTHON'
import socket, sys
with socket.socket() as listener:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", int(sys.argv[1])))
        listener.listen()
    except OSError:
        sys.exit(1)
PYTHON
}

# Only root sees the processes of others, and not every system has ss: then nothing is said.
holder_of() {
    local holder
    holder=$(ss -Hltnp "sport = :$1" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/ by \1 (pid \2)/p;T;q') || true
    printf '%s' "$holder"
}

# A port that nobody listens on, below the range from which outgoing connections take theirs.
pick_free_port() {
    local port
    for _ in {1..50}; do
        port=$((20000 + RANDOM % 12000))
        if port_is_free "$port"; then
            printf '%s\n' "$port"
            return
        fi
    done
    die "found no free port between 20000 and 32000"
}

# pick_free_block COUNT: the first of so many ports in a row that nobody listens on.
pick_free_block() {
    local first port
    for _ in {1..50}; do
        first=$((20000 + RANDOM % 11900))
        for ((port = first; port < first + $1; port++)); do port_is_free "$port" || continue 2; done
        printf '%s\n' "$first"
        return
    done
    die "found no $1 free ports in a row between 20000 and 32000"
}

accepts_connections() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
