//! Query strings.

use axum::{extract::Query, http::Uri};
use serde::de::DeserializeOwned;

use crate::problem::{FieldError, Kind, Problem};

/// What `parse` makes of the parameters.
///
/// # Errors
/// 400 if these are no parameters, or if `parse` refuses them.
pub(crate) fn read<P: DeserializeOwned, T>(
    uri: &Uri,
    parse: impl FnOnce(P) -> Result<T, FieldError>,
) -> Result<T, Problem> {
    Query::try_from_uri(uri)
        .map_err(|_| FieldError::in_parameter("query", "not a query string"))
        .and_then(|Query(parameters)| parse(parameters))
        .map_err(|error| {
            Problem::new(Kind::INVALID_PARAMETER)
                .detail("the query is not valid")
                .errors(vec![error])
        })
}
