//! A source's queue: reached, there, allowed, and how it is set up. Beside the bucket's probes, so that either is tested
//! whatever is wrong with the other.

use tokio::time::timeout;

use super::super::finding::{Blocked, Notes};
use super::super::queue::{self, QUEUE, SET_UP};
use super::source::{IDENTITY, KEYS, has_sts};
use crate::aws::credentials::Provider;
use crate::aws::sqs::Sqs;
use crate::config;
use crate::net::Client;

/// In the order of the report.
pub(super) const PROBES: [&str; 2] = [QUEUE, SET_UP];

/// Probes the queue, if the source has one.
pub(super) async fn probe(
    source: &config::Source,
    client: &Client,
    provider: &Provider,
    notes: &Notes,
) -> Result<(), Blocked> {
    let Some(queue) = &source.queue_url else { return Ok(()) };
    // What is wrong with them is found of `credentials`.
    if !matches!(timeout(KEYS, provider.keys()).await, Ok(Ok(_))) {
        return Err(Blocked("there are no credentials".to_owned()));
    }
    let sqs = Sqs::new(queue, client.clone(), provider.clone());
    match sqs.attributes().await {
        Ok(attributes) => {
            for finding in queue::of_attributes(&attributes, queue) {
                notes.add(finding);
            }
            Ok(())
        }
        Err(fault) => {
            let who = match has_sts(source) {
                true => timeout(IDENTITY, provider.identity()).await.ok().and_then(Result::ok),
                false => None,
            };
            let finding = queue::of_fault(&fault, queue, who.as_ref().map(|who| &*who.arn));
            Err(notes.block(finding, "the queue cannot be asked"))
        }
    }
}
