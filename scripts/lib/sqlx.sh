# shellcheck shell=bash
# The descriptions of the SQL statements that the query macros are checked against (.sqlx/).

# describe_queries DIRECTORY: fills it, with a database of its own on the server of
# TEST_DATABASE_URL, or on one that is started here.
describe_queries() {
    local directory=$1 database="sqlx_prepare_$$_$RANDOM" server status=0
    require_programs python3 # for the parts of the URL
    if [[ -z ${TEST_DATABASE_URL:-} ]]; then
        find_postgres
        start_on_free_ports postgres POSTGRES_PORT -- fsync=off
        server=$(postgres_url postgres)
    else
        server=$TEST_DATABASE_URL
    fi
    mkdir -p "$directory"
    run_psql "$server" -c "create database $database template template0" || return
    describe_on "$(with_database "$server" "$database")" "$directory" || status=1
    run_psql "$server" -c "drop database $database with (force)" || status=1
    return "$status"
}

# Cargo does not know what the macros read. So the files that have some must look changed, but only
# for this one command: what was built before stays fresh.
describe_on() {
    local url=$1 directory=$2 status=0 file
    apply_migrations "$url" || return
    files_with_queries | while IFS= read -r file; do
        mkdir -p "$STATE_DIR/times/${file%/*}" && touch -r "$file" "$STATE_DIR/times/$file" && touch "$file"
    done || return
    # The same packages and targets as the linter is run for, whose dependencies it can use.
    SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$directory DATABASE_URL=$url \
        run_interruptibly cargo check --quiet --locked --workspace --all-targets || status=1
    files_with_queries | while IFS= read -r file; do touch -r "$STATE_DIR/times/$file" "$file"; done
    return "$status"
}

files_with_queries() {
    grep -rlE --include='*.rs' --exclude-dir=target --exclude-dir='.*' '\bquery(_file)?(_as|_scalar)?!' -- */
}

# In the order of their dependencies. One database for all: what they create has different names.
apply_migrations() {
    local migration transaction
    for migration in outbox/migrations/*.sql schema/postgres/migrations/*.sql examples/*/migrations/*.sql; do
        [[ -e $migration ]] || continue
        transaction=--single-transaction
        if [[ $(head -n 1 "$migration") == '-- no-transaction' ]]; then transaction=; fi
        # shellcheck disable=SC2086 # no argument at all, if there is none
        run_psql "$1" $transaction -f "$migration" >/dev/null || return
    done
}

# compare_descriptions DIRECTORY: false unless .sqlx/ holds the same, no more and no less.
compare_descriptions() {
    diff --recursive --brief .sqlx "$1" >"$STATE_DIR/sqlx.diff" && return
    sed "s#$1#the statements in the code#" "$STATE_DIR/sqlx.diff" >&2
    warn "the descriptions in .sqlx/ are not those of the statements: run scripts/sqlx-prepare"
    return 1
}

# run_psql URL ARGUMENT...: the password goes by the environment, where other users can't read it.
run_psql() {
    local url=$1 psql
    shift
    psql=${PG_BIN:+$PG_BIN/psql}
    psql=${psql:-$(command -v psql)} || die "psql is needed (Debian: sudo apt-get install postgresql-client)"
    (
        eval "$(connection_variables "$url")"
        exec "$psql" -X -q -w -v ON_ERROR_STOP=1 "$@"
    )
}

# connection_variables URL: what libpq reads, as commands of the shell.
connection_variables() {
    URL=$1 python3 - <<'PYTHON'
import os, shlex
from urllib.parse import parse_qsl, unquote, urlsplit
url = urlsplit(os.environ["URL"])
variables = {
    "PGHOST": url.hostname, "PGPORT": url.port, "PGUSER": url.username, "PGPASSWORD": url.password,
    "PGDATABASE": url.path.removeprefix("/"), "PGSSLMODE": dict(parse_qsl(url.query)).get("sslmode"),
}
for name, value in variables.items():
    if value:
        print(f"export {name}={shlex.quote(unquote(str(value)))}")
PYTHON
}

# with_database URL DATABASE
with_database() {
    URL=$1 DATABASE=$2 python3 - <<'PYTHON'
import os
from urllib.parse import urlsplit
print(urlsplit(os.environ["URL"])._replace(path="/" + os.environ["DATABASE"]).geturl())
PYTHON
}
