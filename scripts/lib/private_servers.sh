# shellcheck shell=bash
# Servers of a run's own, for tests and benchmarks: on free ports, in a directory that is removed
# at the end, also after a failure or Ctrl-C.

make_private_state_dir() {
    STATE_DIR=$(realpath "$(mktemp -d --tmpdir users-pipeline-run.XXXXXX)")
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

# start_private_servers PROFILE [POSTGRES SETTING...]: PROFILE is the one that was built.
start_private_servers() {
    DEVTOOL=$TARGET_DIR/$1/devtool
    shift
    # The tests start and stop servers of their own, whoever runs the shared ones.
    find_nats
    find_mongodb
    find_pgbouncer
    find_prometheus
    export NATS_SERVER_BIN MONGOD_BIN PGBOUNCER_BIN PROMETHEUS_BIN PROMTOOL_BIN
    if [[ -z ${TEST_DATABASE_URL:-} ]]; then
        find_postgres
        start_on_free_ports postgres POSTGRES_PORT -- max_connections=300 "$@"
        TEST_DATABASE_URL=$(postgres_url postgres)
        export TEST_DATABASE_URL
    fi
    if [[ -z ${TEST_NATS_URL:-} ]]; then
        start_on_free_ports nats NATS_PORT NATS_MONITOR_PORT
        export TEST_NATS_URL=nats://127.0.0.1:$NATS_PORT
    fi
    if [[ -z ${TEST_MONGODB_URI:-} ]]; then
        start_on_free_ports mongodb MONGODB_PORT
        export TEST_MONGODB_URI="mongodb://127.0.0.1:$MONGODB_PORT/?replicaSet=rs0"
    fi
}

# For programs that lose its members and start them again.
start_private_cluster() {
    pick_cluster_ports
    choose_cluster_ports
    find_cluster_programs
    start_cluster
    export STATE_DIR CLUSTER=$ROOT/scripts/cluster
}

# start_busy_loops N: processes that compute without end, beside what is measured or tested.
start_busy_loops() {
    local number
    for ((number = 1; number <= $1; number++)); do
        start_process "busy-$number" bash -c 'while :; do :; done'
    done
}

stop_busy_loops() {
    local file
    for file in "$STATE_DIR"/pids/busy-*; do
        [[ ! -e $file ]] || stop_process "${file##*/}" KILL 5
    done
}

# start_on_free_ports NAME VARIABLE... [-- ARGUMENT...]: another process may take a port between
# our look and the server's start.
start_on_free_ports() {
    local name=$1 variables=()
    shift
    while (($# > 0)) && [[ $1 != -- ]]; do
        variables+=("$1")
        shift
    done
    for _ in {1..5}; do
        for variable in "${variables[@]}"; do printf -v "$variable" %s "$(pick_free_port)"; done
        "start_$name" "${@:2}" && return
        grep -qi 'address already in use' "$(log_of "$name")" || break
        stop_process "$name" KILL 5
    done
    show_log "$name"
    die "$name did not start"
}

clean_up() {
    local status=$?
    trap '' INT TERM HUP
    end_interruptible
    stop_busy_loops
    stop_process user-service KILL 5
    stop_process notification-service KILL 5
    stop_process nats KILL 5
    stop_process mongodb KILL 5
    stop_process postgres QUIT 10
    wipe_postgres
    stop_cluster
    wipe_cluster
    rm -rf "$STATE_DIR"
    say "$( ((status == 0)) && echo passed || echo failed) after $SECONDS s"
    exit "$status"
}
