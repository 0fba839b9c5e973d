# shellcheck shell=bash
# PgBouncer, which tests start themselves.

# PGBOUNCER_BIN, else the one that is installed, else Debian's.
find_pgbouncer() {
    if [[ -z ${PGBOUNCER_BIN:-} ]]; then
        PGBOUNCER_BIN=$(installed_pgbouncer) || install_pgbouncer
        PGBOUNCER_BIN=${PGBOUNCER_BIN:-$(installed_pgbouncer)} || die "PgBouncer was installed and cannot be found"
    fi
    [[ -x $PGBOUNCER_BIN ]] || die "PGBOUNCER_BIN=$PGBOUNCER_BIN is no program"
}

# Debian has it in a directory that only root searches.
installed_pgbouncer() { PATH=$PATH:/usr/sbin command -v pgbouncer; }

install_pgbouncer() {
    # In this run level Debian starts no service of its own on port 6432.
    RUNLEVEL=1 apt_install pgbouncer ||
        die "PgBouncer is needed: install it (Debian: sudo apt-get install pgbouncer), or name it with PGBOUNCER_BIN"
}
