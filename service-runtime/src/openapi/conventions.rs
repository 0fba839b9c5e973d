//! What all operations have in common. What a handler says itself stays as it is.

use axum::http::Method;
use utoipa::{
    Modify, PartialSchema,
    openapi::{
        Content, Header, InfoBuilder, License, OpenApi, Ref, RefOr, Response, Schema,
        example::ExampleBuilder,
        path::{Operation, Parameter, ParameterIn},
        schema::{SchemaType, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{Api, operations};
use crate::problem::{Kind, ProblemBody};

const PROBLEM_JSON: &str = "application/problem+json";
const LICENSE: &str = "MIT OR Apache-2.0";

/// What headers mean that any service may have.
const HEADERS: [(&str, &str); 7] = [
    ("ETag", "The version of what is answered, in quotes."),
    (
        "If-Match",
        "Make the change only if it has one of these versions: `\"3\"`, or `*` for any.",
    ),
    (
        "If-None-Match",
        "Answer 304 if the version is one of these.",
    ),
    (
        "Link",
        "The next page, with `rel=\"next\"`; absent on the last.",
    ),
    ("Retry-After", "After how many seconds to ask again."),
    ("WWW-Authenticate", "`Bearer`."),
    (
        "X-Request-Id",
        "Names the request in the log; the client's own, if it sent one of at most 128 visible ASCII \
         characters.",
    ),
];

impl Modify for Api {
    fn modify(&self, document: &mut OpenApi) {
        let mut license = License::new(LICENSE);
        license.identifier = Some(LICENSE.to_owned());
        document.info = InfoBuilder::new()
            .title(self.title)
            .description(Some(self.about))
            .version(env!("CARGO_PKG_VERSION"))
            .license(Some(license))
            .build();
        let components = document.components.get_or_insert_default();
        let problem = ("Problem".to_owned(), ProblemBody::schema());
        components.schemas.extend([problem]);
        components.add_security_scheme("token", tokens());
        document.security = Some(vec![
            SecurityRequirement::default(),
            SecurityRequirement::new("token", [""; 0]),
        ]);
        for item in document.paths.paths.values_mut() {
            for (method, operation) in operations::of_mut(item) {
                self.complete(&method, operation);
            }
        }
    }
}

fn tokens() -> SecurityScheme {
    let description = "Needed if the service has tokens set: one of any scope for GET, one of scope \
                       write for all else unless the operation says repair. If it is withdrawn, \
                       streams and imports that were begun with it end within seconds.";
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
    SecurityScheme::Http(scheme.description(Some(description)).build())
}

impl Api {
    fn complete(&self, method: &Method, operation: &mut Operation) {
        let is_health = (operation.tags.iter().flatten()).any(|tag| tag == "health");
        let kinds = if is_health {
            operation.security = Some(vec![SecurityRequirement::default()]);
            Vec::new()
        } else {
            common_kinds(method, operation)
        };
        for parameter in operation.parameters.iter_mut().flatten() {
            if let RefOr::T(parameter) = parameter {
                self.complete_parameter(parameter);
            }
        }
        let responses = &mut operation.responses.responses;
        for kind in kinds {
            let status = kind.status.as_str().to_owned();
            responses
                .entry(status)
                .or_insert_with(|| RefOr::T(Response::default()));
        }
        for (status, response) in responses {
            if let RefOr::T(response) = response {
                self.complete_response(status, response, is_health);
            }
        }
    }

    fn complete_parameter(&self, parameter: &mut Parameter) {
        if parameter.parameter_in != ParameterIn::Header {
            return;
        }
        if parameter.description.as_ref().is_none_or(String::is_empty) {
            parameter.description = self.meaning(&parameter.name);
        }
        // A header that is absent is not null.
        if let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema
            && let SchemaType::Array(types) = &mut schema.schema_type
        {
            types.retain(|it| *it != Type::Null);
            if let [only] = &types[..] {
                schema.schema_type = only.clone().into();
            }
        }
    }

    fn complete_response(&self, status: &str, response: &mut Response, is_health: bool) {
        let mut kinds = self.problems();
        // What concerns metrics alone, and what does not concern them.
        let others: &[Kind] = match is_health {
            true => &[Kind::FORBIDDEN, Kind::CROSS_SITE],
            false => &[Kind::METRICS_CLOSED],
        };
        kinds.retain(|kind| kind.status.as_str() == status && !others.contains(kind));
        if !kinds.is_empty() {
            let content = || RefOr::T(problems(&kinds));
            (response.content.entry(PROBLEM_JSON.to_owned())).or_insert_with(content);
            if response.description.is_empty() {
                let titles: Vec<_> = kinds.iter().map(|kind| kind.title).collect();
                response.description = titles.join(", or ");
            }
        }
        let extra = match status {
            "401" => Some("WWW-Authenticate"),
            "429" | "503" => Some("Retry-After"),
            _ => None,
        };
        let headers = &mut response.headers;
        for name in ["X-Request-Id"].into_iter().chain(extra) {
            headers
                .entry(name.to_owned())
                .or_insert_with(|| RefOr::T(Header::default()));
        }
        for (name, header) in headers {
            if let RefOr::T(header) = header
                && header.description.is_none()
            {
                header.description = self.meaning(name);
            }
        }
    }

    fn meaning(&self, header: &str) -> Option<String> {
        let mut known = self.headers.iter().chain(&HEADERS);
        let known = known.find(|(name, _)| name.eq_ignore_ascii_case(header));
        known.map(|(_, meaning)| (*meaning).to_owned())
    }
}

/// What any operation of this form can be answered.
fn common_kinds(method: &Method, operation: &Operation) -> Vec<Kind> {
    let mut kinds = vec![
        Kind::UNAUTHENTICATED,
        Kind::TOO_MANY_REQUESTS,
        Kind::UNKNOWN_HOST,
        Kind::INTERNAL,
        Kind::UNAVAILABLE,
    ];
    if *method != Method::GET {
        kinds.push(Kind::FORBIDDEN);
    }
    if operation.parameters.is_some() {
        kinds.push(Kind::INVALID_PARAMETER);
    }
    if operation.request_body.is_some() {
        kinds.extend([
            Kind::MALFORMED_BODY,
            Kind::BODY_TOO_SLOW,
            Kind::BODY_TOO_LARGE,
            Kind::UNSUPPORTED_MEDIA_TYPE,
            Kind::INVALID_BODY,
        ]);
    }
    kinds
}

fn problems(kinds: &[Kind]) -> Content {
    let mut content = Content::new(Some(Ref::from_schema_name("Problem")));
    content.examples = (kinds.iter())
        .map(|kind| {
            let example = ExampleBuilder::new()
                .summary(kind.title)
                .value(Some(kind.example()));
            (kind.slug.to_owned(), RefOr::T(example.build()))
        })
        .collect();
    content
}
