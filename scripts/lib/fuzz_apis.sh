# shellcheck shell=bash
# Both services, as they were built for the tests, against schemathesis: every check on every
# operation that their descriptions name.

fuzz_apis() {
    local packages database port service status=0
    packages=$(download schemathesis --quiet) || return
    database=$("$DEVTOOL" create-database) || return
    export NATS_STREAM=FUZZ_$$ NATS_SUBJECT=fuzz.$$.events NATS_URL=$TEST_NATS_URL
    for service in user-service notification-service; do
        port=$(pick_free_port)
        DATABASE_URL=$database MONGODB_URI=$TEST_MONGODB_URI MONGODB_DATABASE=fuzz_$$ \
            LISTEN_ADDR=127.0.0.1:$port RUST_LOG=warn \
            start_process "$service" "$TARGET_DIR/debug/$service" serve
        await_service "$service" "http://127.0.0.1:$port"
        fuzz "$service" "http://127.0.0.1:$port" || status=1
    done
    stop_service user-service
    stop_service notification-service
    return "$status"
}

# fuzz SERVICE URL
fuzz() {
    (
        cd "$STATE_DIR" || exit
        export PYTHONPATH=$packages SCHEMATHESIS_HOOKS=$ROOT/scripts/fuzz-apis/hooks.py
        run_interruptibly python3 -m schemathesis.cli --config-file "$ROOT/scripts/fuzz-apis/$1.toml" \
            run "$2/openapi.json" --checks all --max-examples "${FUZZ_EXAMPLES:-50}" --no-color
    )
}
