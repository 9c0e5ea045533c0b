//! Credentials of every kind: where keys come from, how long they are used, and who gets new ones.
//!
//! What holds: each request is signed with the keys of the moment; one renewal at a time, the others go on with the old
//! keys or wait for it; good keys are never withheld because newer ones could not be had; secrets are wiped when
//! dropped and never printed.
//!
//! [`refresh`](self) decides when; `imds`, `container`, `profile` and `process` get keys from one place each, `chain`
//! asks them in order; [`document`] and [`ini`] read what they answer.

mod chain;
mod container;
pub mod document;
mod imds;
pub mod ini;
mod process;
mod profile;
mod refresh;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use log::{info, warn};
use tokio::time::{Instant, timeout};

use self::refresh::{Refresh, Step};
use super::fault::{Class, Fault};
use super::sts::{Identity, Sts};
use crate::{config, net};

/// The longest that getting keys may take, whatever it consists of.
const LIMIT: Duration = Duration::from_secs(90);

/// What a request is signed with. Wiped when dropped; its `Debug` shows the access key id alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys(aws_credential_types::Credentials);

impl Keys {
    /// `expires`: when the server stops to accept them; `None`: never.
    pub fn new(id: &str, secret: &str, token: Option<&str>, expires: Option<SystemTime>) -> Keys {
        let token = token.map(str::to_owned);
        Keys(aws_credential_types::Credentials::new(id, secret, token, expires, "trailspool"))
    }

    /// `AKIA…`, or `ASIA…` for temporary ones. Not a secret.
    pub fn access_key_id(&self) -> &str {
        self.0.access_key_id()
    }

    /// Temporary keys have one.
    pub fn session_token(&self) -> Option<&str> {
        self.0.session_token()
    }

    /// By the issuer's clock.
    pub fn expires(&self) -> Option<SystemTime> {
        self.0.expiry()
    }

    #[cfg(test)]
    pub(super) fn secret_access_key(&self) -> &str {
        self.0.secret_access_key()
    }

    pub(super) fn identity(&self) -> aws_credential_types::Credentials {
        self.0.clone() // shares the keys
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("access_key_id", &self.access_key_id()).finish_non_exhaustive()
    }
}

/// Keys as they were issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The keys.
    pub keys: Keys,
    /// What was left of their life then; `None`: they do not end.
    pub life: Option<Duration>,
}

impl Issued {
    /// `now` is the issuer's time: by its own clock it knows when they end, whatever ours says.
    pub(super) fn at(now: SystemTime, keys: Keys) -> Issued {
        let life = keys.expires().map(|end| end.duration_since(now).unwrap_or_default());
        Issued { keys, life }
    }
}

/// The keys of one source, always fresh. A clone shares them.
#[derive(Debug, Clone)]
pub struct Provider(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    origin: Origin,
    state: Mutex<State>,
    /// Held by the one that gets new keys.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    refresh: Refresh,
    keys: Option<Arc<Keys>>,
    /// Why there are none, or no newer ones.
    fault: Option<Fault>,
}

/// What is at hand for a request.
enum AtHand {
    Good(Arc<Keys>),
    /// Good, but to be renewed.
    Due(Arc<Keys>),
    Nothing,
    Fault(Fault),
}

/// Why a server refuses keys, where others may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// They have ended, and are not used again.
    Expired,
    /// It does not know them. Somebody may have put others in their place; or they are so new that not every server
    /// knows them yet, and they are used again if there are no others.
    Unknown,
}

impl Refusal {
    /// That which a fault tells of.
    pub fn of(fault: &Fault) -> Option<Refusal> {
        match fault.cause {
            "expired" => Some(Refusal::Expired),
            "access-key" => Some(Refusal::Unknown),
            _ => None,
        }
    }
}

impl Provider {
    /// The provider of a source. `client`, the source's own, asks STS; the metadata service and containers' agents are
    /// asked directly, never through a proxy (boto/botocore#2644).
    pub fn new(source: &config::Source, client: net::Client) -> Provider {
        let origin = Origin {
            source: source.name.clone(),
            credentials: source.credentials.clone(),
            sts: Sts::new(&source.sts, &source.region, client.clone()),
            local: net::Client::plain(imds::TIMEOUTS),
            client,
        };
        let state = State { refresh: Refresh::new(), keys: None, fault: None };
        Provider(Arc::new(Shared { origin, state: Mutex::new(state), turn: tokio::sync::Mutex::new(()) }))
    }

    /// Keys to sign a request with now. May take as long as getting new ones does. May be cancelled: nothing is lost.
    ///
    /// # Errors
    /// There are no usable keys, and new ones could not be had; while a try lies a moment back, its fault.
    pub async fn keys(&self) -> Result<Arc<Keys>, Fault> {
        let shared = &*self.0;
        loop {
            let (_turn, old) = match shared.at_hand() {
                AtHand::Good(keys) => return Ok(keys),
                AtHand::Fault(fault) => return Err(fault),
                AtHand::Due(old) => match shared.turn.try_lock() {
                    Ok(turn) => (turn, Some(old)),
                    Err(_) => return Ok(old), // somebody renews them already
                },
                AtHand::Nothing => (shared.turn.lock().await, None),
            };
            // Whoever had the turn before may have done it.
            if matches!(shared.at_hand(), AtHand::Due(_) | AtHand::Nothing) {
                return match (shared.renew().await, old) {
                    (Ok(keys), _) | (Err(_), Some(keys)) => Ok(keys),
                    (Err(fault), None) => Err(fault),
                };
            }
        }
    }

    /// The server refuses these keys: new ones are asked for before the next request, unless that happened already, or
    /// no new ones can be expected.
    pub fn refused(&self, keys: &Keys, why: Refusal) {
        let mut state = self.0.state();
        let present = state.keys.as_deref() == Some(keys);
        if present && !matches!(self.0.origin.credentials, config::Credentials::IamUser { .. }) {
            match why {
                Refusal::Expired => state.refresh.refused(),
                Refusal::Unknown => state.refresh.doubted(Instant::now().into_std()),
            }
        }
    }

    /// Whose keys these are, by STS GetCallerIdentity, which everybody may ask.
    ///
    /// # Errors
    /// As [`Provider::keys`], and what STS says of them.
    pub async fn identity(&self) -> Result<Identity, Fault> {
        let keys = self.keys().await?;
        self.0.origin.sts.caller_identity(&keys).await.map_err(|fault| self.0.origin.named(fault))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner) // each change of it is one assignment
    }

    fn at_hand(&self) -> AtHand {
        let state = self.state();
        let step = state.refresh.step(Instant::now().into_std());
        match (step, &state.keys, &state.fault) {
            (Step::Use, Some(keys), _) => AtHand::Good(keys.clone()),
            (Step::Renew, Some(keys), _) => AtHand::Due(keys.clone()),
            (Step::Wait, _, Some(fault)) => AtHand::Fault(fault.clone()),
            _ => AtHand::Nothing,
        }
    }

    /// Gets new keys; the caller has the turn.
    async fn renew(&self) -> Result<Arc<Keys>, Fault> {
        let issued = match timeout(LIMIT, self.origin.issue()).await {
            Ok(issued) => issued.map_err(|fault| self.origin.named(fault)),
            Err(_) => Err(self.origin.named(Fault::new(
                Class::Retry,
                "slow",
                format!("getting credentials took longer than {} s", LIMIT.as_secs()),
            ))),
        };
        let mut state = self.state();
        let issued = issued.and_then(|issued| match state.keys.as_deref() {
            Some(old) if state.refresh.is_refused() && *old == issued.keys => {
                Err(self.origin.named(still_the_same(&issued.keys)))
            }
            _ => Ok(issued),
        });
        let (now, random) = (Instant::now().into_std(), fastrand::u64(..));
        match issued {
            Ok(issued) => {
                let keys = Arc::new(issued.keys);
                state.refresh.renewed(issued.life, now, random);
                state.keys = Some(keys.clone());
                if state.fault.take().is_some() {
                    info!("source {}: there are credentials again", self.origin.source);
                }
                Ok(keys)
            }
            Err(fault) => {
                if let (None, Some(left)) =
                    (&state.fault, state.refresh.left(now).filter(|left| !left.is_zero()))
                {
                    let (source, minutes) = (&self.origin.source, left.as_secs() / 60);
                    warn!("source {source}: {fault}; the present ones hold for {minutes} more minutes");
                }
                state.refresh.failed(now, random, fault.retry_after);
                state.fault = Some(fault.clone());
                Err(fault)
            }
        }
    }
}

fn still_the_same(keys: &Keys) -> Fault {
    let text = format!(
        "the server refuses access key {} as expired, and where it came from there is no newer one: is this machine's \
         clock right, and is that renewed?",
        keys.access_key_id()
    );
    Fault::new(Class::Denied, "expired", text)
}

/// How keys are got, and whom to ask.
#[derive(Debug)]
struct Origin {
    source: Box<str>,
    credentials: config::Credentials,
    sts: Sts,
    /// For endpoints on this machine or link: no proxy, no TLS.
    local: net::Client,
    client: net::Client,
}

impl Origin {
    fn named(&self, mut fault: Fault) -> Fault {
        fault.text.insert_str(0, "credentials: ");
        fault
    }

    async fn issue(&self) -> Result<Issued, Fault> {
        self.issue_by(&self.credentials).await
    }

    fn issue_by<'a>(
        &'a self,
        credentials: &'a config::Credentials,
    ) -> Pin<Box<dyn Future<Output = Result<Issued, Fault>> + Send + 'a>> {
        Box::pin(async move {
            match credentials {
                config::Credentials::IamUser { access_key_id, secret_access_key } => {
                    let keys = Keys::new(access_key_id, secret_access_key.reveal(), None, None);
                    Ok(Issued { keys, life: None })
                }
                config::Credentials::Ec2Role { metadata } => imds::issue(metadata, &self.local).await,
                config::Credentials::Ecs(container) => self.container(container).await,
                config::Credentials::Profile { name, environment } => {
                    self.profile(name, environment).await.map_err(profile::Failed::fault)
                }
                config::Credentials::Default(environment) => chain::issue(self, environment).await,
                config::Credentials::AssumeRole { base, role } => {
                    let base = self.issue_by(base).await?;
                    self.sts.assume_role(&base.keys, role).await
                }
            }
        })
    }

    async fn container(&self, container: &config::Container) -> Result<Issued, Fault> {
        let tls = container.url.scheme_str() == Some("https");
        container::issue(container, if tls { &self.client } else { &self.local }).await
    }

    /// A profile's own keys, or those it refers to, and the roles that it assumes with them.
    async fn profile(
        &self,
        name: &str,
        environment: &config::Environment,
    ) -> Result<Issued, profile::Failed> {
        let plan = profile::plan(name, environment)?;
        let mut issued = match plan.base {
            profile::Base::Keys(keys) => Issued { keys, life: None },
            profile::Base::Process(command) => process::issue(command.reveal()).await?,
            profile::Base::Environment => chain::environment(environment)?,
            profile::Base::Container => match &environment.container {
                Some(container) => self.container(container).await?,
                None => return Err(profile::Failed::Fault(chain::absent(chain::NO_CONTAINER))),
            },
            profile::Base::Instance => match &environment.metadata {
                Some(metadata) => imds::issue(metadata, &self.local).await?,
                None => return Err(profile::Failed::Fault(chain::absent(chain::NO_INSTANCE))),
            },
        };
        for role in &plan.roles {
            issued = self.sts.assume_role(&issued.keys, role).await?;
        }
        Ok(issued)
    }
}

#[cfg(test)]
mod tests;
