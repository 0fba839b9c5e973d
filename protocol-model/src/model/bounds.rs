//! How far the model is explored.

/// What may happen, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    pub keys: u8,
    pub relays: u8,
    pub writes: u8,
    pub takeovers: u8,
    pub relay_crashes: u8,
    pub lost_messages: u8,
    pub lost_acks: u8,
    pub late_messages: u8,
    pub late_saves: u8,
    pub lost_tails: u8,
    pub lost_in_the_middle: u8,
    pub forgotten_duplicates: u8,
    pub restores: u8,
    pub consumer_crashes: u8,
    pub put_backs: u8,
    /// Before NATS 2.14, which leaves consumers beyond the end of a stream that has lost it.
    pub has_old_server: bool,
}

impl Bounds {
    /// One relay and one user without faults.
    pub const NOTHING: Self = Self {
        keys: 1,
        relays: 1,
        writes: 2,
        takeovers: 0,
        relay_crashes: 0,
        lost_messages: 0,
        lost_acks: 0,
        late_messages: 0,
        late_saves: 0,
        lost_tails: 0,
        lost_in_the_middle: 0,
        forgotten_duplicates: 0,
        restores: 0,
        consumer_crashes: 0,
        put_backs: 0,
        has_old_server: false,
    };

    /// With another one of the counts, by the name of its field.
    #[must_use]
    pub fn with(mut self, name: &str, count: u8) -> Option<Self> {
        let field = match name {
            "keys" => &mut self.keys,
            "relays" => &mut self.relays,
            "writes" => &mut self.writes,
            "takeovers" => &mut self.takeovers,
            "relay_crashes" => &mut self.relay_crashes,
            "lost_messages" => &mut self.lost_messages,
            "lost_acks" => &mut self.lost_acks,
            "late_messages" => &mut self.late_messages,
            "late_saves" => &mut self.late_saves,
            "lost_tails" => &mut self.lost_tails,
            "lost_in_the_middle" => &mut self.lost_in_the_middle,
            "forgotten_duplicates" => &mut self.forgotten_duplicates,
            "restores" => &mut self.restores,
            "consumer_crashes" => &mut self.consumer_crashes,
            "put_backs" => &mut self.put_backs,
            _ => return None,
        };
        *field = count;
        Some(self)
    }

    /// What they allow, to read.
    #[must_use]
    pub fn describe(&self) -> String {
        let counts = [
            (self.keys, "user", "users"),
            (self.writes, "write", "writes"),
            (self.relays, "relay", "relays"),
            (self.takeovers, "takeover", "takeovers"),
            (self.relay_crashes, "relay killed", "relays killed"),
            (
                self.lost_messages,
                "message lost on its way",
                "messages lost on their way",
            ),
            (
                self.lost_acks,
                "acknowledgement lost",
                "acknowledgements lost",
            ),
            (
                self.late_messages,
                "message that arrives late",
                "messages that arrive late",
            ),
            (self.late_saves, "cursor saved late", "cursors saved late"),
            (
                self.lost_tails,
                "lost end of the stream",
                "lost ends of the stream",
            ),
            (
                self.lost_in_the_middle,
                "message deleted",
                "messages deleted",
            ),
            (
                self.forgotten_duplicates,
                "end of the duplicate window",
                "ends of the duplicate window",
            ),
            (self.restores, "restore", "restores"),
            (self.consumer_crashes, "consumer killed", "consumers killed"),
            (self.put_backs, "copy put back", "copies put back"),
        ];
        let counts = counts.into_iter().filter(|(count, ..)| *count > 0);
        let described = counts.map(|(count, one, many)| match count {
            1 => format!("1 {one}"),
            count => format!("{count} {many}"),
        });
        let mut described: Vec<_> = described.collect();
        if self.has_old_server {
            described.push("NATS before 2.14".to_owned());
        }
        described.join(", ")
    }
}
