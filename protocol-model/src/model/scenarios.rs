//! What is explored: each scenario is about some faults at once, since all at once are more states than can
//! be visited.

use crate::model::{Bounds, Guard};

#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub bounds: Bounds,
}

/// Without these guards an invariant no longer holds within these bounds, or else there is a reason.
#[derive(Debug, Clone, Copy)]
pub struct Needed {
    pub guards: &'static [Guard],
    pub bounds: Bounds,
    pub reason: Option<&'static str>,
}

const NOTHING: Bounds = Bounds::NOTHING;

const LATE_COMMITS: Bounds = Bounds {
    keys: 2,
    writes: 3,
    lost_messages: 1,
    ..NOTHING
};
const MANY_COMMITS: Bounds = Bounds {
    keys: 2,
    writes: 4,
    ..NOTHING
};
const LOST_ACKS: Bounds = Bounds {
    keys: 2,
    writes: 2,
    lost_messages: 1,
    lost_acks: 1,
    relay_crashes: 1,
    ..NOTHING
};
const TWO_RELAYS: Bounds = Bounds {
    relays: 2,
    takeovers: 1,
    lost_acks: 1,
    lost_tails: 1,
    ..NOTHING
};
const LATE_SAVES: Bounds = Bounds {
    relay_crashes: 1,
    late_saves: 1,
    lost_in_the_middle: 1,
    ..NOTHING
};
const REPEATS: Bounds = Bounds {
    writes: 3,
    relay_crashes: 1,
    late_messages: 1,
    forgotten_duplicates: 1,
    consumer_crashes: 1,
    ..NOTHING
};
const LOST_MIDDLE: Bounds = Bounds {
    lost_tails: 1,
    lost_in_the_middle: 1,
    relay_crashes: 1,
    ..NOTHING
};
const BOTH_ENDS: Bounds = Bounds {
    keys: 2,
    lost_tails: 1,
    lost_in_the_middle: 1,
    ..NOTHING
};
const LATE_AND_LOST: Bounds = Bounds {
    lost_tails: 1,
    lost_in_the_middle: 1,
    late_messages: 1,
    ..NOTHING
};
const LOST_TAIL: Bounds = Bounds {
    keys: 3,
    writes: 3,
    lost_tails: 1,
    ..NOTHING
};
const OLD_SERVER: Bounds = Bounds {
    writes: 3,
    lost_tails: 1,
    has_old_server: true,
    ..NOTHING
};
const RESTORED: Bounds = Bounds {
    writes: 3,
    restores: 1,
    ..NOTHING
};
const RESTORED_AND_DELETED: Bounds = Bounds {
    writes: 4,
    restores: 1,
    ..NOTHING
};
const RESTORED_LATE: Bounds = Bounds {
    restores: 1,
    late_messages: 1,
    ..NOTHING
};
const PUT_BACK: Bounds = Bounds {
    consumer_crashes: 1,
    put_backs: 1,
    ..NOTHING
};
const PUT_BACK_AND_LOST: Bounds = Bounds {
    lost_tails: 1,
    put_backs: 1,
    ..NOTHING
};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "late commits",
        bounds: LATE_COMMITS,
    },
    Scenario {
        name: "many late commits",
        bounds: MANY_COMMITS,
    },
    Scenario {
        name: "lost messages and acknowledgements",
        bounds: LOST_ACKS,
    },
    Scenario {
        name: "two relays",
        bounds: TWO_RELAYS,
    },
    Scenario {
        name: "statements that come late",
        bounds: LATE_SAVES,
    },
    Scenario {
        name: "repeats beyond the duplicate window",
        bounds: REPEATS,
    },
    Scenario {
        name: "a stream that loses messages",
        bounds: LOST_MIDDLE,
    },
    Scenario {
        name: "a stream that loses messages that came late",
        bounds: LATE_AND_LOST,
    },
    Scenario {
        name: "a stream that loses its end under load",
        bounds: LOST_TAIL,
    },
    Scenario {
        name: "an old server that loses the end of its stream",
        bounds: OLD_SERVER,
    },
    Scenario {
        name: "a database that is restored",
        bounds: RESTORED,
    },
    Scenario {
        name: "a database that is restored while messages are on their way",
        bounds: RESTORED_LATE,
    },
    Scenario {
        name: "a copy that is put back",
        bounds: PUT_BACK,
    },
    Scenario {
        name: "a copy that is put back beside a stream that loses its end",
        bounds: PUT_BACK_AND_LOST,
    },
];

const fn needed(guards: &'static [Guard], bounds: Bounds) -> Needed {
    Needed {
        guards,
        bounds,
        reason: None,
    }
}

const fn backed_up(guards: &'static [Guard], bounds: Bounds, reason: &'static str) -> Needed {
    Needed {
        guards,
        bounds,
        reason: Some(reason),
    }
}

pub const NEEDED: &[Needed] = &[
    needed(&[Guard::Version], REPEATS),
    needed(&[Guard::Tombstone], REPEATS),
    needed(&[Guard::AckAfterWrite], REPEATS),
    needed(&[Guard::Rewind], OLD_SERVER),
    needed(&[Guard::KnownStore], PUT_BACK),
    needed(&[Guard::Claim], PUT_BACK),
    needed(&[Guard::CursorAfterAck], LOST_ACKS),
    needed(&[Guard::OneInFlight], LATE_COMMITS),
    backed_up(
        &[Guard::EpochFence],
        TWO_RELAYS,
        "nothing by itself: the earlier owner's session is over once the next owner's begins",
    ),
    needed(&[Guard::Session], LATE_SAVES),
    needed(&[Guard::EpochFence, Guard::Session], TWO_RELAYS),
    needed(&[Guard::Gaps], LATE_COMMITS),
    needed(&[Guard::NewFirst], MANY_COMMITS),
    needed(&[Guard::GapBound], LATE_COMMITS),
    needed(&[Guard::StopAtFailure], LOST_TAIL),
    needed(&[Guard::TailCheck], LOST_TAIL),
    needed(&[Guard::KnownBeginning], BOTH_ENDS),
    needed(&[Guard::Refill], LOST_MIDDLE),
    needed(&[Guard::NewMessageId], LOST_MIDDLE),
    needed(&[Guard::PassedMeanwhile], LATE_AND_LOST),
    needed(&[Guard::Orphans], RESTORED),
    needed(&[Guard::Strangers], RESTORED_LATE),
    needed(&[Guard::RestatedAbove], RESTORED),
    needed(&[Guard::KnownDeletion], RESTORED_AND_DELETED),
    needed(&[Guard::Superseded], RESTORED),
];
