//! Where the requests of one bucket go, and how one is sent: signed anew with the time of the server, as far as it is
//! known. A server that finds our clock wrong is asked once more with its own date; a bucket that is in another region
//! than the configured one is asked for there from then on; keys that have expired, or that the server does
//! not know, are renewed once.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use tokio::time::Instant;

use super::error_answer;
use crate::aws::control::{USER_AGENT, now, shift};
use crate::aws::credentials::{Keys, Provider, Refusal};
use crate::aws::fault::{Class, Fault, On, Operation};
use crate::aws::partition;
use crate::aws::sigv4::{Scope, encode_path};
use crate::net::Gate;
use crate::net::clock::seconds_from;
use crate::{config, net};

#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) source: Box<str>,
    pub(super) name: Box<str>,
    /// As configured.
    pub(super) region: Box<str>,
    pub(super) endpoint: config::Endpoint,
    pub(super) flavor: partition::Flavor,
    pub(super) target: Mutex<Arc<Target>>,
    pub(super) provider: Provider,
    pub(super) request_payer: bool,
    pub(super) client: net::Client,
    /// Seconds that the server's clock is ahead of ours.
    pub(super) clock_ahead: AtomicI64,
    /// Listings are asked for as plain text: the server does not say in time that it URL-encodes.
    pub(super) plain_listings: AtomicBool,
    /// How many objects, and how many pages, may be asked for at once.
    pub(super) gets: Gate,
    pub(super) lists: Gate,
}

/// Where requests go.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) region: Box<str>,
    /// What they are signed for.
    pub(super) scope: Scope,
    /// Host and port.
    pub(super) endpoint: Box<str>,
    /// Scheme and authority, and with path style the bucket: what a key is put behind, with a `/`.
    pub(super) base: Box<str>,
}

/// A request without a body.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) operation: Operation<'a>,
    /// Behind the bucket's URL, with a query if it has one.
    pub(super) path: &'a str,
    pub(super) headers: &'a HeaderMap,
}

impl Target {
    pub(super) fn new(endpoint: &config::Endpoint, bucket: &str, region: &str) -> Target {
        let config::Endpoint { tls, host, port, path_style } = endpoint;
        let scheme = if *tls { "https" } else { "http" };
        let endpoint = match port {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let base = if *path_style || is_address || (*tls && bucket.contains('.')) {
            format!("{scheme}://{endpoint}/{}", encode_path(bucket))
        } else {
            format!("{scheme}://{bucket}.{endpoint}")
        };
        let scope = Scope::new("s3", region);
        Target { region: region.into(), scope, endpoint: endpoint.into(), base: base.into() }
    }
}

impl Bucket {
    pub(super) fn on<'a>(&'a self, target: &'a Target, operation: Operation<'a>) -> On<'a> {
        On { operation, bucket: &self.name, region: &target.region, endpoint: &target.endpoint }
    }

    pub(super) fn target(&self) -> Arc<Target> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The bucket in another region: at AWS's own endpoint there, if it is reached by one in the configured region,
    /// and else at the same place. `None`: AWS has no such endpoint there.
    fn in_region(&self, region: &str) -> Option<Arc<Target>> {
        let host = |region| partition::find(region)?.s3(self.flavor);
        let mut endpoint = self.endpoint.clone();
        if host(&self.region).as_deref() == Some(&*endpoint.host) {
            endpoint.host = host(region)?.into();
        }
        Some(Arc::new(Target::new(&endpoint, &self.name, region)))
    }

    /// The bucket is asked for there from here on.
    fn settle(&self, target: &Arc<Target>) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(target);
    }

    /// Sends a request for what stands behind the bucket's URL. It is sent once more with the server's date if our
    /// clock turns out wrong, once more to the bucket's own region if that turns out to be another, and once more with
    /// newer keys if these have expired or are not known.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<(Arc<Target>, Response<net::Body>), Fault> {
        let mut target = self.target();
        let mut ahead = self.clock_ahead.load(Ordering::Relaxed);
        let mut keys = self.provider.keys().await?;
        let (mut corrected, mut followed, mut renewed) = (false, false, false);
        loop {
            let on = self.on(&target, ask.operation);
            let answer = self.send(&target, ask, &keys, ahead).await?;
            if !matches!(answer.status().as_u16(), 301 | 307 | 308 | 400 | 403) {
                if followed {
                    self.settle(&target);
                }
                return Ok((target, answer));
            }
            let (head, body) = answer.into_parts();
            let fault = error_answer(&on, &head, body).await;
            if followed && fault.cause != "wrong-region" {
                self.settle(&target); // the right place, whatever else is wrong there
            }
            match &fault.class {
                Class::ClockSkew(theirs) if !corrected => {
                    corrected = true;
                    ahead = seconds_from(now(), *theirs);
                    self.clock_ahead.store(ahead, Ordering::Relaxed);
                }
                Class::WrongRegion(right) if !followed => {
                    followed = true;
                    target = self.in_region(right).ok_or(fault)?;
                }
                Class::Denied if !renewed && let Some(why) = Refusal::of(&fault) => {
                    renewed = true;
                    self.provider.refused(&keys, why);
                    let newer = self.provider.keys().await?;
                    if newer == keys {
                        return Err(fault); // keys that are not renewed: an operator has to
                    }
                    keys = newer;
                }
                _ => return Err(fault),
            }
        }
    }

    async fn send(
        &self,
        target: &Target,
        ask: &Ask<'_>,
        keys: &Keys,
        ahead: i64,
    ) -> Result<Response<net::Body>, Fault> {
        let Ask { method, operation, path, headers } = ask;
        let on = &self.on(target, *operation);
        let unsendable = |why: &dyn std::fmt::Display| {
            let advice = "check `bucket`, `endpoint`, `region` and the credentials";
            Fault::new(Class::Config, "config", format!("{on}: the request cannot be made ({why}): {advice}"))
        };
        let mut request = Request::get(format!("{}{path}", target.base))
            .body(Full::<Bytes>::default())
            .map_err(|error| unsendable(&error))?;
        request.method_mut().clone_from(method);
        let authority = request.uri().authority().map_or("", |authority| authority.as_str());
        let host = authority.parse().map_err(|error| unsendable(&error))?;
        request.headers_mut().extend((*headers).clone());
        request.headers_mut().insert(header::HOST, host);
        request.headers_mut().insert(header::USER_AGENT, header::HeaderValue::from_static(USER_AGENT));
        if self.request_payer {
            request
                .headers_mut()
                .insert("x-amz-request-payer", header::HeaderValue::from_static("requester"));
        }
        let at = shift(now(), ahead);
        target.scope.sign(&mut request, b"", keys, at).map_err(|error| unsendable(&error))?;
        let sent = Instant::now();
        let answer = self.client.request(request).await.map_err(|error| Fault::of_net(on, &error))?;
        self.keep_pace(*operation, answer.status(), sent);
        Ok(answer)
    }

    /// As much in flight as the bucket takes. What asks to slow down means all requests: S3 counts them by prefix.
    fn keep_pace(&self, operation: Operation<'_>, status: StatusCode, sent: Instant) {
        let (gate, other) = match operation {
            Operation::List { .. } => (&self.lists, &self.gets),
            _ => (&self.gets, &self.lists),
        };
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            if gate.slowed(sent) {
                log::debug!("bucket {}: {status}; {} requests at once from now on", self.name, gate.size());
            }
            other.slowed(sent);
        } else if status.is_success() {
            gate.answered(sent);
        }
    }
}
