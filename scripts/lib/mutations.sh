# shellcheck shell=bash
# Whether scripts/chaos finds the mutations in chaos/mutations/: services that lack one guard.

MUTATIONS=$ROOT/chaos/mutations
# A mutation that so many faults do not bring to light counts as not found.
MUTATION_FAULTS=${MUTATION_FAULTS:-200}

# find_mutations [NAME...]: builds each from the last commit, has this commit's checker run against it,
# and prints a table.
find_mutations() {
    local name names=("$@")
    if (($# == 0)); then
        names=("$MUTATIONS"/*.patch)
        names=("${names[@]##*/}")
        names=("${names[@]%.patch}")
    fi
    for name in "${names[@]}"; do
        [[ -f $MUTATIONS/$name.patch ]] || die "there is no mutation $name"
    done
    make_scratch_tree mutations HEAD
    local rows=()
    for name in "${names[@]}"; do
        build_mutation "$name"
        strike_mutation "$name"
        rows+=("| \`$name\` | $FOUND_BY | $FAULTS |")
    done
    remove_scratch_tree
    printf '\n| mutation | found by | after faults |\n|---|---|---|\n'
    printf '%s\n' "${rows[@]}"
}

build_mutation() {
    say "Building the mutation $1"
    git -C "$TREE" apply "$MUTATIONS/$1.patch" || die "$1 does not apply"
    build_scratch_tree
    git -C "$TREE" apply --reverse "$MUTATIONS/$1.patch"
}

# What is not found from outside is looked for in the decisions of the services as well.
strike_mutation() {
    look_for "$1" --only-from-outside
    [[ -n $FOUND_BY ]] || look_for "$1"
    FOUND_BY=${FOUND_BY:-not found}
    say "$1: $FOUND_BY, after $FAULTS faults"
}

# look_for NAME [ARGUMENT...]: sets FOUND_BY to the checks that have failed, and FAULTS to the number of
# faults until then.
look_for() {
    local name=$1 log=$STATE_DIR/mutation.log kinds=()
    shift
    # Kinds of faults without which the guard is hardly ever needed.
    mapfile -t kinds < <(sed -n 's/^Faults: /--only=/p' "$MUTATIONS/$name.patch")
    empty_small_disks
    run_interruptibly "$TARGET_DIR/$PROFILE/chaos" run --binaries "$TREE_BINARIES" --seed 1 \
        --faults "$MUTATION_FAULTS" "${kinds[@]}" "$@" >"$log" || true
    FOUND_BY=$(sed -n -e 's/^VIOLATION in round [0-9]* of seed [0-9]*: \([^:]*\):.*/\1/p' \
        -e 's/^FAILED: /the run failed: /p' "$log" | sort -u | paste -sd ';' | sed 's/;/; /g')
    FAULTS=$(sed -n 's/^seed [0-9]*: \([0-9]*\) faults.*/\1/p' "$log")
    [[ -n $FAULTS ]] || {
        cat "$log" >&2
        die "$name: no report"
    }
}
