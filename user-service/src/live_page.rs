//! `GET /live`: the live page, which shows events on their way. Its files hold no data, so they need
//! no token; what they show comes from the API.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use service_runtime::etag;
use sha2::{Digest, Sha256};
use utoipa_axum::router::OpenApiRouter;

use crate::config::CopyUrl;

/// A file of the page.
#[derive(Clone, Copy)]
struct File {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const FILES: &[File] = &[
    page("/live", include_str!("live_page/index.html")),
    style("/live/layout.css", include_str!("live_page/layout.css")),
    style("/live/panels.css", include_str!("live_page/panels.css")),
    style("/live/theme.css", include_str!("live_page/theme.css")),
    script("/live/access.js", include_str!("live_page/access.js")),
    script("/live/chart.js", include_str!("live_page/chart.js")),
    script("/live/dom.js", include_str!("live_page/dom.js")),
    script("/live/events.js", include_str!("live_page/events.js")),
    script("/live/failing.js", include_str!("live_page/failing.js")),
    script("/live/feeds.js", include_str!("live_page/feeds.js")),
    script("/live/form.js", include_str!("live_page/form.js")),
    script("/live/journey.js", include_str!("live_page/journey.js")),
    script("/live/live.js", include_str!("live_page/live.js")),
    script("/live/state.js", include_str!("live_page/state.js")),
    script("/live/status.js", include_str!("live_page/status.js")),
    script("/live/theme.js", include_str!("live_page/theme.js")),
    script("/live/times.js", include_str!("live_page/times.js")),
];

const fn page(path: &'static str, text: &'static str) -> File {
    let content_type = "text/html; charset=utf-8";
    File {
        path,
        content_type,
        text,
    }
}

const fn style(path: &'static str, text: &'static str) -> File {
    let content_type = "text/css; charset=utf-8";
    File {
        path,
        content_type,
        text,
    }
}

const fn script(path: &'static str, text: &'static str) -> File {
    let content_type = "text/javascript; charset=utf-8";
    File {
        path,
        content_type,
        text,
    }
}

/// The files, and `/live/config.json`, which tells the page where the copy is.
pub(crate) fn router(copy: &CopyUrl) -> OpenApiRouter {
    let policy = policy(copy);
    let files = FILES.iter().fold(OpenApiRouter::new(), |router, file| {
        let served = Served {
            file: *file,
            version: version(file.text),
            policy: policy.clone(),
        };
        router.route(file.path, get(serve).with_state(served))
    });
    let config = Json(json!({ "copy_url": copy.as_str() }));
    files.route("/live/config.json", get(async move || config))
}

#[derive(Clone)]
struct Served {
    file: File,
    version: i64,
    policy: HeaderValue,
}

/// Asked for each time, and sent only if it has changed: after an upgrade no old file stays.
async fn serve(State(served): State<Served>, headers: HeaderMap) -> Response {
    let Served {
        file,
        version,
        policy,
    } = served;
    let common = [
        (header::ETAG, etag::tag(version)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    if etag::is_known(&headers, version) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let content_type = [(header::CONTENT_TYPE, file.content_type)];
    (common, content_type, file.text).into_response()
}

/// Of the content: another one has another version.
fn version(text: &str) -> i64 {
    let hash: [u8; 32] = Sha256::digest(text).into();
    let (first, _) = hash.split_at(8);
    first.iter().fold(0, |version, byte| {
        ((version << 8) | i64::from(*byte)) & i64::MAX
    })
}

/// Nothing from elsewhere, no script but the page's own, and no calls but to the two services.
fn policy(copy: &CopyUrl) -> HeaderValue {
    let copy = copy.as_str().unwrap_or_default();
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self' {copy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).expect("visible ASCII")
}
