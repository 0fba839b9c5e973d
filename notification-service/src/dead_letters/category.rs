//! Why a message became a dead letter, without quoting it.

use event_consumer::Rejection;
use serde::Serialize;
use utoipa::ToSchema;

/// Why a message could not be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Category {
    NotJson,
    UnknownType,
    WrongShape,
    RefusedByMongodb,
    UnreadableHeaders,
    /// A replay so late that nobody may know any more that the user was deleted since.
    TooOld,
    /// Dead letters of earlier releases say no more.
    Other,
}

impl Category {
    const ALL: [Self; 7] = [
        Self::NotJson,
        Self::UnknownType,
        Self::WrongShape,
        Self::RefusedByMongodb,
        Self::UnreadableHeaders,
        Self::TooOld,
        Self::Other,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::UnknownType => "unknown_type",
            Self::WrongShape => "wrong_shape",
            Self::RefusedByMongodb => "refused_by_mongodb",
            Self::UnreadableHeaders => Rejection::UNREADABLE_HEADERS,
            Self::TooOld => "too_old",
            Self::Other => "other",
        }
    }

    pub(super) fn parse(text: &str) -> Self {
        let named = Self::ALL.into_iter().find(|it| it.as_str() == text);
        named.unwrap_or(Self::Other)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared_events::UserEvent;

    use super::Category;

    #[test]
    fn a_category_has_one_name() {
        for category in Category::ALL {
            assert_eq!(json!(category), json!(category.as_str()));
            assert_eq!(Category::parse(category.as_str()), category);
        }
    }

    #[test]
    fn what_is_no_event_has_a_category() {
        for (body, category) in [
            ("{", Category::NotJson),
            (r#"{"type":"user_merged"}"#, Category::UnknownType),
            ("{}", Category::WrongShape),
        ] {
            let unreadable = UserEvent::parse(body.as_bytes()).expect_err("no event");
            assert_eq!(Category::parse(unreadable.category()), category);
        }
    }
}
