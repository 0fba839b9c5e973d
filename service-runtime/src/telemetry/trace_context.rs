//! W3C trace context (<https://www.w3.org/TR/trace-context/>), as headers carry it. It is handed on as
//! it came: whatever makes spans parses it, and nothing changes it.

use std::str::FromStr;

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};

pub const TRACEPARENT: &str = "traceparent";
pub const TRACESTATE: &str = "tracestate";

const TRACEPARENT_BYTES: usize = 55;
/// What the standard asks everybody to hand on at least.
const MAX_TRACESTATE_BYTES: usize = 512;

/// A `traceparent` of the right form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent<'a>(&'a str);

impl<'a> Traceparent<'a> {
    /// `None` if the form is not right, or an id is zero, which stands for none.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let is_shaped = text.len() == TRACEPARENT_BYTES
            && text.bytes().enumerate().all(|(at, byte)| match at {
                2 | 35 | 52 => byte == b'-',
                _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            });
        let is_none = |id: &str| id.bytes().all(|byte| byte == b'0');
        let traceparent = Self(text);
        let is_valid = is_shaped
            && &text[..2] != "ff"
            && !is_none(traceparent.trace_id())
            && !is_none(traceparent.span_id());
        is_valid.then_some(traceparent)
    }

    /// The same, and only if it says that its trace is sampled. Where many messages pass, this costs
    /// those of other traces a look at one byte.
    #[must_use]
    pub fn parse_sampled(text: &'a str) -> Option<Self> {
        let last = *text.as_bytes().get(TRACEPARENT_BYTES - 1)?;
        let is_sampled = char::from(last).to_digit(16)? & 1 == 1;
        is_sampled.then(|| Self::parse(text)).flatten()
    }

    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// In hexadecimal, as logs have it.
    #[must_use]
    pub fn trace_id(self) -> &'a str {
        &self.0[3..35]
    }

    fn span_id(self) -> &'a str {
        &self.0[36..52]
    }

    /// What a span can be linked to. A `tracestate` that is not well-formed is left out.
    #[must_use]
    pub fn span_context(self, tracestate: Option<&str>) -> SpanContext {
        let flags = u8::from_str_radix(&self.0[53..], 16).unwrap_or_default();
        SpanContext::new(
            TraceId::from_hex(self.trace_id()).unwrap_or(TraceId::INVALID),
            SpanId::from_hex(self.span_id()).unwrap_or(SpanId::INVALID),
            TraceFlags::new(flags),
            true,
            tracestate.and_then(parse_state).unwrap_or_default(),
        )
    }

    /// What a span can be a child of.
    #[must_use]
    pub fn context(self, tracestate: Option<&str>) -> Context {
        Context::new().with_remote_span_context(self.span_context(tracestate))
    }
}

/// Whether this `tracestate` can be handed on.
#[must_use]
pub fn is_tracestate(text: &str) -> bool {
    parse_state(text).is_some()
}

fn parse_state(text: &str) -> Option<TraceState> {
    let text = (text.len() <= MAX_TRACESTATE_BYTES).then_some(text)?;
    let state = TraceState::from_str(text).ok()?;
    (state != TraceState::NONE).then_some(state)
}

/// The `traceparent` of a span.
#[must_use]
pub fn traceparent(span: &SpanContext) -> String {
    let (trace_id, span_id) = (span.trace_id(), span.span_id());
    let flags = span.trace_flags() & TraceFlags::SAMPLED;
    format!("00-{trace_id}-{span_id}-{flags:02x}")
}

#[cfg(test)]
mod tests {
    use super::{Traceparent, is_tracestate, traceparent};

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    #[test]
    fn only_what_has_the_form_of_a_traceparent_is_one() {
        for good in [SAMPLED, UNSAMPLED, &SAMPLED.replacen("00", "01", 1)] {
            assert!(Traceparent::parse(good).is_some(), "{good}");
        }
        for bad in [
            &SAMPLED.to_uppercase(),
            &SAMPLED.replace('-', "_"),
            &SAMPLED[1..],
            &format!("{SAMPLED}-00"),
            &SAMPLED.replacen("00", "ff", 1),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            &format!("{}é", &SAMPLED[..53]),
            "",
        ] {
            assert_eq!(Traceparent::parse(bad), None, "{bad}");
            assert_eq!(Traceparent::parse_sampled(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_last_bit_says_whether_a_trace_is_sampled() {
        for (flags, expected) in [("01", true), ("03", true), ("00", false), ("02", false)] {
            let text = format!("{}{flags}", &SAMPLED[..53]);
            assert_eq!(Traceparent::parse_sampled(&text).is_some(), expected);
            let parsed = Traceparent::parse(&text).expect("a traceparent");
            assert_eq!(parsed.span_context(None).is_sampled(), expected);
        }
    }

    #[test]
    fn a_context_is_written_as_it_was_read() {
        for text in [SAMPLED, UNSAMPLED] {
            let context = Traceparent::parse(text).map(|it| it.span_context(Some("a=1,b=2")));
            let context = context.expect("a traceparent");
            assert_eq!(traceparent(&context), text);
            assert_eq!(context.trace_state().header(), "a=1,b=2");
        }
    }

    #[test]
    fn a_tracestate_that_others_would_not_understand_is_none() {
        assert!(is_tracestate("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"));
        let long = format!("a={}", "1".repeat(511));
        for bad in ["", " ", "a", "A=1", "a=1,b", long.as_str()] {
            assert!(!is_tracestate(bad), "{bad}");
        }
    }
}
