//! Connections to servers. HTTP/1.1 over TCP or TLS: one client with a keep-alive pool, time-outs for every wait, and errors that
//! say what an operator can do. Redirects are not followed and nothing is decoded. And streams over TCP or TLS for protocols of
//! other rooms ([`stream`]).

pub mod backoff;
pub mod client;
pub mod clock;
mod connect;
pub mod error;
pub mod gate;
mod issuer;
pub mod proxy;
#[cfg(test)]
pub(crate) mod scripted;
pub mod stream;
mod tls;
pub mod window;

pub use backoff::Backoff;
pub use client::{Body, Client, Options, Timeouts};
pub use clock::Clock;
pub use error::{Error, Kind};
pub use gate::Gate;
pub use proxy::{NoProxy, Proxies, Proxy};
pub use stream::{Dialer, Stream, ended_within};
pub use tls::{Identity, Trust};
