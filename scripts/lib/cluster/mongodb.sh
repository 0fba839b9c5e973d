# shellcheck shell=bash
# A MongoDB replica set of three: a majority of them has each write in its journal.

start_mongodb_member() {
    mkdir -p "$STATE_DIR/$1"
    start_process "$1" "$MONGOD_BIN" --dbpath "$STATE_DIR/$1" --bind_ip 127.0.0.1 \
        --port "$((MONGODB_PORT + ${1##*-} - 1))" --nounixsocket --replSet rs0 \
        --wiredTigerCacheSizeGB 0.25 --oplogSize 128 --setParameter diagnosticDataCollectionEnabled=false
}

await_replica_set() {
    local number
    for number in 1 2 3; do
        wait_until_ready "mongodb-$number" 60 accepts_connections "$((MONGODB_PORT + number - 1))" || {
            show_log "mongodb-$number"
            die "mongodb-$number did not start"
        }
    done
    MONGODB_URI=$MONGODB_URI "$DEVTOOL" init-replica-set
}
