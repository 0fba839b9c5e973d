//! Which aggregate types' events go to which stream and subject.

use std::str::FromStr;

use anyhow::bail;
use service_runtime::nats::Topic;

/// Events of this aggregate type go to this stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub aggregate_type: String,
    pub topic: Topic,
}

impl FromStr for Route {
    type Err = String;

    /// `TYPE=STREAM:SUBJECT`
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = (text.split_once('='))
            .and_then(|(aggregate_type, topic)| Some((aggregate_type, topic.split_once(':')?)));
        let Some((aggregate_type, (stream, subject))) = parts else {
            return Err("must be TYPE=STREAM:SUBJECT".to_owned());
        };
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:/-".contains(&byte);
        if !(1..=128).contains(&aggregate_type.len()) || !aggregate_type.bytes().all(is_allowed) {
            return Err(
                "the type must have 1 to 128 letters, digits or characters of _.:/-".to_owned(),
            );
        }
        Ok(Self {
            aggregate_type: aggregate_type.to_owned(),
            topic: Topic {
                stream: Topic::parse_stream(stream)
                    .map_err(|fault| format!("the stream {fault}"))?,
                subject: Topic::parse_subject(subject)
                    .map_err(|fault| format!("the subject {fault}"))?,
            },
        })
    }
}

/// The streams of all routes, in the order in which they were first named. The first one takes care
/// of events that have no route: it parks them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes(Vec<RoutedStream>);

/// A stream, and whose events go to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoutedStream {
    pub(crate) topic: Topic,
    pub(crate) aggregate_types: Vec<String>,
}

impl Routes {
    /// # Errors
    /// If there is no route, or if two contradict each other.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> anyhow::Result<Self> {
        let mut streams: Vec<RoutedStream> = Vec::new();
        for Route {
            aggregate_type,
            topic,
        } in routes
        {
            if streams
                .iter()
                .any(|it| it.aggregate_types.contains(&aggregate_type))
            {
                bail!("there are two routes for the aggregate type {aggregate_type}");
            }
            let same = |it: &RoutedStream| it.topic.stream == topic.stream;
            let is_taken = |it: &RoutedStream| !same(it) && it.topic.subject == topic.subject;
            if streams.iter().any(is_taken) {
                bail!(
                    "two streams have the subject {}; one can have it",
                    topic.subject
                );
            }
            match streams
                .iter_mut()
                .find(|it| it.topic.stream == topic.stream)
            {
                Some(stream) if stream.topic != topic => {
                    bail!("stream {} has two subjects; it can have one", topic.stream);
                }
                Some(stream) => stream.aggregate_types.push(aggregate_type),
                None => streams.push(RoutedStream {
                    topic,
                    aggregate_types: vec![aggregate_type],
                }),
            }
        }
        if streams.is_empty() {
            bail!("there is no route");
        }
        Ok(Self(streams))
    }

    pub(crate) fn streams(&self) -> &[RoutedStream] {
        &self.0
    }

    /// The aggregate types whose events this stream's session sees to: none if no route leads there,
    /// `None` for the first stream, which sees to all that no other does.
    pub(crate) fn responsibility(&self, stream: &str) -> Option<Vec<String>> {
        let is_named = |it: &&RoutedStream| it.topic.stream == stream;
        match self.0.iter().find(is_named) {
            Some(found) if Some(found) == self.0.first() => None,
            Some(found) => Some(found.aggregate_types.clone()),
            None => Some(Vec::new()),
        }
    }

    /// The types of all streams but this one.
    pub(crate) fn types_of_others(&self, stream: &RoutedStream) -> Vec<String> {
        let others = self.0.iter().filter(|it| *it != stream);
        others.flat_map(|it| it.aggregate_types.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Route, Routes};

    fn routes(texts: &[&str]) -> Result<Routes, String> {
        let parsed = texts.iter().map(|text| text.parse::<Route>());
        let parsed: Vec<_> = parsed.collect::<Result<_, _>>()?;
        Routes::new(parsed).map_err(|error| error.to_string())
    }

    #[test]
    fn types_with_the_same_stream_share_it() {
        let routes = routes(&["user=USERS:users", "order=SHOP:shop", "cart=SHOP:shop"]);
        let routes = routes.expect("routes");
        let [users, shop] = routes.streams() else {
            panic!("expected two streams: {routes:?}");
        };
        assert_eq!(shop.aggregate_types, ["order", "cart"]);
        assert_eq!(routes.types_of_others(users), ["order", "cart"]);
    }

    #[test]
    fn what_is_no_route_or_contradicts_another_is_refused() {
        for (texts, fault) in [
            (&["user"][..], "TYPE=STREAM:SUBJECT"),
            (&["a b=A:a"], "the type"),
            (&["a=A.B:a"], "the stream"),
            (&["a=A:a.*"], "the subject"),
            (&["a=A:a", "a=B:b"], "two routes"),
            (&["a=A:a", "b=A:b"], "two subjects"),
            (&["a=A:a", "b=B:a"], "two streams"),
            (&[], "no route"),
        ] {
            let error = routes(texts).expect_err("it is refused");
            assert!(error.contains(fault), "{error}");
        }
    }
}
