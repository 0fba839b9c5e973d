# shellcheck shell=bash
# Prometheus with the alerts of observability/, on loopback only.

# PROMETHEUS_BIN and PROMTOOL_BIN, else those that are installed, else Debian's.
find_prometheus() {
    if [[ -z ${PROMETHEUS_BIN:-} ]]; then
        command -v prometheus >/dev/null || install_stopped prometheus ||
            die "Prometheus is needed: install it (Debian: sudo apt-get install prometheus), or name it with PROMETHEUS_BIN"
        PROMETHEUS_BIN=$(command -v prometheus) || die "Prometheus was installed and cannot be found"
    fi
    PROMTOOL_BIN=${PROMTOOL_BIN:-$(dirname "$PROMETHEUS_BIN")/promtool}
    [[ -x $PROMETHEUS_BIN ]] || die "PROMETHEUS_BIN=$PROMETHEUS_BIN is no program"
    [[ -x $PROMTOOL_BIN ]] || die "PROMTOOL_BIN=$PROMTOOL_BIN is no program"
}

choose_prometheus_port() {
    PROMETHEUS_PORT=${PROMETHEUS_PORT:-9090}
    PROMETHEUS_URL=http://127.0.0.1:$PROMETHEUS_PORT
}

# start_prometheus: with the targets that the function `targets` prints.
start_prometheus() {
    local home=$STATE_DIR/prometheus
    mkdir -p "$home"
    cp "$ROOT"/observability/{prometheus,alerts}.yml "$home"
    targets >"$home/targets.yml"
    (umask 077 && metrics_token >"$home/metrics-token")
    start_process prometheus "$PROMETHEUS_BIN" --config.file="$home/prometheus.yml" \
        --storage.tsdb.path="$home/data" --storage.tsdb.retention.time=15d \
        --web.listen-address="127.0.0.1:$PROMETHEUS_PORT"
    wait_until_ready prometheus 30 prometheus_answers
}

# What the services were given; nothing if they need no token.
metrics_token() {
    if [[ -n ${METRICS_TOKEN_FILE:-} ]]; then
        cat "$METRICS_TOKEN_FILE"
    else
        printf %s "${METRICS_TOKEN:-}"
    fi
}

# targets_of JOB URL...: as file_sd_configs reads them.
targets_of() {
    local url
    printf -- '- labels: {job: %s}\n  targets:\n' "$1"
    for url in "${@:2}"; do printf '    - "%s"\n' "${url#http://}"; done
}

prometheus_answers() { curl -fs -o /dev/null -m 2 "$PROMETHEUS_URL/-/ready"; }

stop_prometheus() { stop_process prometheus TERM 30; }
