# shellcheck shell=bash
# Three NATS servers, each of which has a copy of every stream (STREAM_REPLICAS=3).

start_nats_member() {
    local number=${1##*-} routes
    routes=$(each_of 3 nats://127.0.0.1:%s "$(member_port nats-route-1)")
    mkdir -p "$STATE_DIR/$1"
    start_process "$1" "$NATS_SERVER_BIN" -js -sd "$STATE_DIR/$1" -a 127.0.0.1 -n "$1" \
        -p "$((NATS_PORT + number - 1))" -m "$((NATS_MONITOR_PORT + number - 1))" \
        --cluster_name users --cluster "nats://127.0.0.1:$(member_port "nats-route-$number")" --routes "$routes"
}
