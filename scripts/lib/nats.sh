# shellcheck shell=bash
# A private NATS server with JetStream.

find_nats() {
    NATS_SERVER_BIN=${NATS_SERVER_BIN:-$(download nats-server)/bin/nats-server}
    [[ -x $NATS_SERVER_BIN ]] || die "NATS_SERVER_BIN=$NATS_SERVER_BIN is no program"
}

start_nats() {
    mkdir -p "$STATE_DIR/nats"
    start_process nats "$NATS_SERVER_BIN" -js -sd "$STATE_DIR/nats" -a 127.0.0.1 \
        -p "$NATS_PORT" -m "$NATS_MONITOR_PORT"
    wait_until_ready nats 30 nats_answers
}

nats_answers() { curl -fs -o /dev/null -m 2 "http://127.0.0.1:$NATS_MONITOR_PORT/healthz"; }

stop_nats() { stop_process nats TERM 30; }
