# shellcheck shell=bash
# What the program `chaos` needs, and the short run of scripts/test.

# For a stack that it starts itself.
prepare_chaos() {
    find_postgres
    find_nats
    find_mongodb
    export PG_BIN NATS_SERVER_BIN MONGOD_BIN
}

# A file system for each server, for faults to fill; in memory, as far as it is used. PostgreSQL, which runs as
# another user, has to get there.
make_small_disks() {
    DISKS=$(mktemp -d --tmpdir users-pipeline-disks.XXXXXX)
    chmod 711 "$DISKS"
    trap remove_small_disks EXIT
    if mount_small_disk postgres 2g && mount_small_disk nats 512m && mount_small_disk mongodb 3g; then
        export CHAOS_DISKS=$DISKS
    else
        warn "no file system can be mounted here: the fault disk-full IS LEFT OUT"
    fi
}

mount_small_disk() {
    mkdir "$DISKS/$1"
    mount -t tmpfs -o "size=$2" chaos "$DISKS/$1" 2>/dev/null
}

# Of what a run has left that was killed.
empty_small_disks() {
    [[ -z ${CHAOS_DISKS:-} ]] || find "$CHAOS_DISKS" -mindepth 2 -delete
}

remove_small_disks() {
    local status=$?
    set +e
    end_interruptible
    umount --lazy "$DISKS"/* 2>/dev/null
    rmdir "$DISKS"/* "$DISKS"
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

# The last tag before this commit, or what a file names as long as there is none.
earlier_release() {
    git -C "$ROOT" describe --tags --abbrev=0 HEAD^ 2>/dev/null || cat "$ROOT/chaos/earlier-release"
}

# Sets EARLIER_RELEASE to the directory of its programs, which are built once.
build_earlier_release() {
    local revision
    revision=$(git -C "$ROOT" rev-parse --verify --quiet "$1^{commit}") || die "there is no revision $1"
    EARLIER_RELEASE=$ROOT/.local/upgrade/$revision
    if [[ -x $EARLIER_RELEASE/user-service && -x $EARLIER_RELEASE/notification-service ]]; then return; fi
    say "Building $revision"
    make_scratch_tree upgrade "$revision"
    build_scratch_tree
    mkdir -p "$EARLIER_RELEASE"
    cp "$TREE_BINARIES/user-service" "$TREE_BINARIES/notification-service" "$EARLIER_RELEASE/"
    remove_scratch_tree
}

# make_scratch_tree NAME REVISION: sets TREE to a checkout that is no more than that, and TREE_BINARIES to
# where build_scratch_tree leaves its programs.
make_scratch_tree() {
    TREE=$ROOT/.local/$1/tree
    TREE_BINARIES=$ROOT/.local/$1/target/debug
    remove_scratch_tree
    git -C "$ROOT" worktree add --quiet --force --detach "$TREE" "$2" || die "no checkout of $2"
}

build_scratch_tree() {
    CARGO_TARGET_DIR=${TREE_BINARIES%/debug} run_interruptibly cargo build --quiet --locked --bins \
        --manifest-path "$TREE/Cargo.toml" -p user-service -p notification-service || die "the build failed"
}

# Also one that an interrupted run has left; there need be none.
remove_scratch_tree() {
    git -C "$ROOT" worktree remove --force "$TREE" 2>/dev/null || true
}
