# shellcheck shell=bash
# What the program `chaos` needs, and the short run of scripts/test.

# For a stack that it starts itself.
prepare_chaos() {
    find_postgres
    find_nats
    find_mongodb
    export PG_BIN NATS_SERVER_BIN MONGOD_BIN
    make_small_disk
}

# A file system of a few megabytes, for faults to fill.
make_small_disk() {
    mkdir "$STATE_DIR/disk"
    if mount -t tmpfs -o size=256m chaos "$STATE_DIR/disk" 2>/dev/null; then
        trap remove_small_disk EXIT
        export CHAOS_DISK=$STATE_DIR/disk
    else
        warn "no file system can be mounted here: the fault disk-full IS LEFT OUT"
    fi
}

remove_small_disk() {
    local status=$?
    set +e
    end_interruptible
    umount --lazy "$STATE_DIR/disk"
    (exit "$status")
    clean_up
}

# The same faults each time, of kinds from which a loaded machine recovers within seconds as well.
CHAOS_KINDS=kill,cut,stall,black-hole,delay,half-open-caller,half-open-server,throttle
CHAOS_KINDS+=,postgres-restart,stream-delete,message-delete,consumer-delete,mongodb-step-down
CHAOS_KINDS+=,trickle-clients,deaf-clients,silent-clients

chaos_briefly() {
    run_interruptibly "$TARGET_DIR/debug/chaos" run --seed 1 --faults 30 --rate 30 --only "$CHAOS_KINDS"
}
