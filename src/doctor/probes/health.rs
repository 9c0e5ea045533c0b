//! The health endpoint of a preset's API: whether the receiver is there and well, and knows the output's credentials.
//! A GET each, which no receiver can take for a record.

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::Full;

use super::super::finding::{Finding, Kind, Notes};
use crate::config::http::{Auth, Http, Preset};
use crate::decode::field::{self, Field, Path};
use crate::deliver::http::{headers, hec, origin, with_path};
use crate::limits;
use crate::net::Client;

/// The probe's name.
pub(super) const HEALTH: &str = "health";

/// Where the preset's API says how it is; `None`: it does not.
pub(super) fn endpoint(output: &Http) -> Option<Uri> {
    let path = output.url.path();
    let cut = |end| path.strip_suffix(end).unwrap_or("");
    let path = match &output.preset {
        Preset::Ndjson | Preset::JsonArray => return None,
        Preset::SplunkHec(_) => hec::sibling(path, "health", None),
        Preset::ElasticBulk(_) => "/".to_owned(),
        Preset::Loki(_) => format!("{}/ready", cut("/loki/api/v1/push")),
    };
    with_path(&output.url, &path).ok()
}

/// Asks.
pub(super) async fn health(client: &Client, output: &Http, endpoint: Uri, notes: &Notes) {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = endpoint;
    match headers(output) {
        Ok(headers) => *request.headers_mut() = headers,
        Err(why) => {
            let fix = "write the secret into its file anew";
            return notes.add(Finding::fail(HEALTH, Kind::Config, "the request cannot be made", why, fix));
        }
    }
    let host = origin(&output.url);
    let answer = match client.request(request).await {
        Ok(answer) => answer,
        Err(error) => {
            let what = format!("{host} does not answer requests");
            let fix = "check that the receiver runs, and the output's `url`";
            return notes.add(Finding::fail(HEALTH, Kind::Unavailable, what, error.to_string(), fix));
        }
    };
    let status = answer.status();
    let body = answer.into_body().read_at_most(limits::ERROR_BODY_BYTES).await.unwrap_or_default();
    notes.add(verdict(output, &host, status, &body));
}

fn verdict(output: &Http, host: &str, status: StatusCode, body: &[u8]) -> Finding {
    let answered = format!("{host} answered {status}");
    let secret = match &output.auth {
        Some(Auth::Splunk(_)) => "correct `splunk_token_file`",
        Some(Auth::ApiKey(_)) => "correct `api_key_file`",
        Some(Auth::Bearer(_)) => "correct `bearer_token_file`",
        Some(Auth::Basic { .. }) => "correct `username` and `password_file`",
        None => "write credentials: `username` and `password_file`, or a token",
    };
    let another = |what: &str| {
        let fix = "check the output's `url` and `preset`";
        Finding::fail(HEALTH, Kind::Config, format!("{host} does not answer as {what} does"), &answered, fix)
    };
    match (&output.preset, status) {
        (Preset::SplunkHec(_), _) => match (hec::read(body).code.map(hec::meaning), status) {
            (_, StatusCode::OK) => Finding::ok(HEALTH, format!("{host} says that the collector is well")),
            (Some(hec::Meaning::Hold(fix)), _) => {
                Finding::fail(HEALTH, Kind::Permission, answered, "the collector refuses the token", fix)
            }
            (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Finding::fail(HEALTH, Kind::Permission, answered, "the collector refuses the token", secret)
            }
            (_, status) if status.is_server_error() => unwell(answered),
            _ => another("Splunk's HTTP Event Collector"),
        },
        (_, StatusCode::UNAUTHORIZED) => {
            Finding::fail(HEALTH, Kind::Permission, answered, "it does not know the credentials", secret)
        }
        (Preset::ElasticBulk(_), StatusCode::FORBIDDEN) => {
            let why =
                "the credentials are known but may not ask for the version; they may be enough for `_bulk`";
            Finding::warn(HEALTH, answered, why, "grant `cluster:monitor/main`, or watch the output's status")
        }
        (Preset::ElasticBulk(_), StatusCode::OK) => match field::find(body, &Path::new("version.number")) {
            Field::Text(version) => {
                let version: String = String::from_utf8_lossy(version).chars().take(20).collect();
                Finding::ok(HEALTH, format!("{host} is version {}", version.escape_debug()))
            }
            _ => another("Elasticsearch"),
        },
        (Preset::Loki(_), StatusCode::OK) => Finding::ok(HEALTH, format!("{host} says that it is ready")),
        (Preset::Loki(_), StatusCode::NOT_FOUND) => {
            Finding::ok(HEALTH, format!("{host} does not show /ready, which gateways often hide"))
        }
        (_, status) if status.is_server_error() => unwell(answered),
        _ => another("the preset's API"),
    }
}

fn unwell(answered: String) -> Finding {
    let why = "the receiver is there, but not well: records wait in the spool until it is";
    Finding::warn(HEALTH, answered, why, "look at the receiver")
}

/// The probes of an HTTP output.
pub(super) fn probes(output: &Http) -> &'static [&'static str] {
    if endpoint(output).is_some() { &["dns", "tcp", "tls", HEALTH] } else { &super::network::STEPS }
}
